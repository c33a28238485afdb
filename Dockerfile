# The image holds one file. It comes from the stage that BINARY names: `build` compiles it here, `prebuilt` takes
# dist/<architecture>/postlane, so that a program that was built and tested outside is the one that is shipped:
#
#   docker build -t postlane .
#   docker build -t postlane --build-arg BINARY=prebuilt .
#   docker buildx build -t postlane --platform linux/amd64,linux/arm64 .
#
# BuildKit only builds the stage that is asked for. It is the default of every Docker since 23; on 20.10 set DOCKER_BUILDKIT=1.
ARG BINARY=build
ARG RUST=1.95.0

# Runs on the builder's own architecture and compiles for the image's: no emulation.
FROM --platform=$BUILDPLATFORM rust:${RUST}-slim-bookworm AS build
ARG BUILDARCH
ARG TARGETARCH
RUN set -eu; \
    case "$TARGETARCH" in \
        amd64) cpu=x86_64 gcc=gcc-x86-64-linux-gnu ;; \
        arm64) cpu=aarch64 gcc=gcc-aarch64-linux-gnu ;; \
        *) echo "postlane is not built for $TARGETARCH" >&2; exit 1 ;; \
    esac; \
    if [ "$BUILDARCH" = "$TARGETARCH" ]; then gcc=; fi; \
    dpkg --add-architecture "$TARGETARCH"; \
    apt-get update; \
    apt-get install -y --no-install-recommends "musl-dev:$TARGETARCH" $gcc; \
    rm -rf /var/lib/apt/lists/*; \
    rustup target add "$cpu-unknown-linux-musl"; \
    echo "$cpu-unknown-linux-musl" >/target
# What .cargo/config.toml says for aarch64, for a builder that is not x86_64.
ENV CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_LINKER=x86_64-linux-gnu-gcc \
    CC_x86_64_unknown_linux_musl=x86_64-linux-musl-gcc
WORKDIR /postlane
# The dependencies, in a layer that stays until a manifest changes: the members of the workspace are empty at first.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY devkit/Cargo.toml devkit/
COPY xtask/Cargo.toml xtask/
RUN mkdir -p src devkit/src xtask/src; \
    touch src/lib.rs devkit/src/lib.rs; \
    echo 'fn main() {}' | tee src/main.rs >xtask/src/main.rs; \
    cargo build --release --locked --package postlane --target "$(cat /target)"
COPY templates templates
COPY src src
# Cargo goes by the time of a file, and those from outside may be older than the empty ones.
RUN set -eu; \
    touch src/lib.rs src/main.rs; \
    cargo build --release --locked --package postlane --target "$(cat /target)"; \
    install -D -m 755 "target/$(cat /target)/release/postlane" /out/postlane

FROM scratch AS prebuilt
ARG TARGETARCH
COPY dist/${TARGETARCH}/postlane /out/postlane

FROM ${BINARY} AS binary

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="postlane" \
      org.opencontainers.image.description="Delivers the e-mail events of Kafka topics by SMTP" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=binary /out/postlane /postlane
# There is no /etc/passwd: a number, as Kubernetes wants it for runAsNonRoot.
USER 65532:65532
EXPOSE 8081
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["/postlane", "healthcheck"]
ENTRYPOINT ["/postlane"]
CMD ["serve"]
