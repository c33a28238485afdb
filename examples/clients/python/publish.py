"""Publishes the mail for a password reset in postlane's high lane, by confluent-kafka:

    KAFKA_BROKERS=localhost:9092 python publish.py user@example.com
"""

import json
import os
import secrets
import sys
from datetime import datetime, timedelta, timezone

from confluent_kafka import KafkaException, Message, Producer


def password_reset(to: str, link: str, valid: timedelta) -> dict:
    """Made once for each mail: whatever is tried again later is this same event with this same id."""
    now = datetime.now(timezone.utc)
    return {
        "type": "password_reset",
        "message": {
            "id": f"password-reset-{secrets.token_hex(16)}",
            "from": "Example Shop <shop@example.com>",
            "to": [to],
            "template": "password-reset",
            "data": {"Link": link},
            "priority": "high",
            "timestamp": now.isoformat(),
            "expires_at": (now + valid).isoformat(),  # a mail with a dead link helps nobody
        },
    }


def new_producer(brokers: str) -> Producer:
    """One for the whole program, shared between its threads."""
    return Producer(
        {
            "bootstrap.servers": brokers,
            "enable.idempotence": True,  # and with it acks=all: what the client sends again is stored once
            "partitioner": "murmur2_random",  # by the key, as the Java client does
            "compression.type": "lz4",
            "delivery.timeout.ms": 10_000,  # the default is five minutes
            "linger.ms": 5,
        }
    )


def publish(producer: Producer, topic: str, event: dict) -> Message:
    """Returns when all in-sync replicas have the event, and where it stands.

    After a KafkaException they may have it all the same. A caller that tries again hands over the same event, so that
    both mails have one Message-ID.
    """
    outcome = []
    producer.produce(
        topic,
        key=event["message"]["id"],
        value=json.dumps(event),
        on_delivery=lambda error, message: outcome.append((error, message)),
    )
    producer.flush()  # not without end: each record has its answer within delivery.timeout.ms
    error, message = outcome[0]
    if error is not None:
        raise KafkaException(error)
    return message


def main() -> int:
    if len(sys.argv) != 2:
        print(f"usage: {sys.argv[0]} RECIPIENT", file=sys.stderr)
        return 1
    topic = os.environ.get("KAFKA_TOPIC", "email-queue") + "-high"
    producer = new_producer(os.environ.get("KAFKA_BROKERS", "localhost:9092"))
    event = password_reset(sys.argv[1], f"https://example.com/reset?token={secrets.token_urlsafe()}", timedelta(hours=1))
    event_id = event["message"]["id"]
    try:
        message = publish(producer, topic, event)
    except (KafkaException, BufferError) as error:
        print(f"{event_id} is not published, as far as we know: {error}", file=sys.stderr)
        return 1
    print(f"published {event_id} to {topic}, partition {message.partition()}, offset {message.offset()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
