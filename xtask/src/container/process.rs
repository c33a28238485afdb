//! What the kernel knows of a container's process: its rights, its place, its root.

use std::fmt;

use anyhow::{Context as _, Result, ensure};

/// What `status` and `mountinfo` below `/proc/<id>/` say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Traits {
    /// Its number in its own namespace.
    pub(super) number: u32,
    /// Real, effective, saved and file system user.
    pub(super) users: Vec<u32>,
    /// Capabilities that it, or a program that it starts, could have.
    pub(super) capabilities: u64,
    /// Whether no program that it starts can gain rights.
    pub(super) no_new_privileges: bool,
    /// Whether its root cannot be written.
    pub(super) read_only: bool,
}

impl Traits {
    /// Of a running process.
    pub(super) fn of(id: u32) -> Result<Self> {
        let read = |file: &str| {
            let path = format!("/proc/{id}/{file}");
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}: has the container ended?"))
        };
        Self::parse(&read("status")?, &read("mountinfo")?)
    }

    fn parse(status: &str, mounts: &str) -> Result<Self> {
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
            line.map(str::trim).with_context(|| format!("/proc has no {name}: not Linux?"))
        };
        let mut capabilities = 0;
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            capabilities |= u64::from_str_radix(field(set)?, 16)?;
        }
        let root =
            mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>()).rfind(|line| line.get(4) == Some(&"/"));
        let options = root.as_ref().and_then(|root| root.get(5)).context("the process has no root")?;
        Ok(Self {
            number: field("NSpid")?.split_whitespace().next_back().context("no number")?.parse()?,
            users: field("Uid")?.split_whitespace().map(str::parse).collect::<Result<_, _>>()?,
            capabilities,
            no_new_privileges: field("NoNewPrivs")? == "1",
            read_only: options.split(',').any(|option| option == "ro"),
        })
    }

    /// Fails where it is more than it should be.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.number == 1, "the program is not the first process: {self}");
        ensure!(!self.users.contains(&0), "the program runs as root: {self}");
        ensure!(self.capabilities == 0, "the program has capabilities: {self}");
        ensure!(self.no_new_privileges, "the program could gain rights: {self}");
        ensure!(self.read_only, "the program's root can be written: {self}");
        Ok(())
    }
}

impl fmt::Display for Traits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "process {}, users {:?}, capabilities {:x}, no new privileges: {}, read-only root: {}",
            self.number, self.users, self.capabilities, self.no_new_privileges, self.read_only
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tpostlane\nUid:\t65532\t65532\t65532\t65532\nNSpid:\t4711\t1\nCapInh:\t0000000000000000\n\
        CapPrm:\t0000000000000000\nCapEff:\t0000000000000000\nCapBnd:\t0000000000000000\nCapAmb:\t0000000000000000\n\
        NoNewPrivs:\t1\n";
    const MOUNTS: &str =
        "21 20 0:19 / / ro,relatime - overlay overlay rw\n22 21 0:20 / /proc rw,nosuid - proc proc rw\n";

    #[test]
    fn a_confined_process_passes() {
        let traits = Traits::parse(STATUS, MOUNTS).expect("traits");
        assert_eq!((traits.number, traits.users.as_slice()), (1, [65532; 4].as_slice()));
        traits.check().expect("confined");
    }

    #[test]
    fn each_right_too_many_is_found() {
        for (from, to) in [
            ("Uid:\t65532", "Uid:\t0"),
            ("NSpid:\t4711\t1\n", "NSpid:\t4711\t7\n"),
            ("CapBnd:\t0000000000000000", "CapBnd:\t0000000000000400"),
            ("NoNewPrivs:\t1", "NoNewPrivs:\t0"),
        ] {
            let traits = Traits::parse(&STATUS.replace(from, to), MOUNTS).expect("traits");
            assert!(traits.check().is_err(), "{to:?} passes");
        }
        let traits = Traits::parse(STATUS, &MOUNTS.replace("/ / ro", "/ / rw")).expect("traits");
        assert!(traits.check().is_err(), "a root that can be written passes");
    }
}
