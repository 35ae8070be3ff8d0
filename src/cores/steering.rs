//! Steers new connections to the data core on whose CPU their first packet arrived: a program in each group of SO_REUSEPORT sockets
//! (socket(7), SO_ATTACH_REUSEPORT_CBPF). It returns an index in the group, in which sockets stand in the order in which they began
//! to listen. Whoever changes a group attaches anew.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use libc::sock_filter;
use tracing::warn;

use super::listen::Listening;
use super::takeover::Owner;
use crate::config::snapshot::{Listen, Steering};
use crate::host::steering::{By, Steered};
use crate::net::steer;

/// The listening sockets of one address, and how the kernel is to choose among them.
pub struct Group {
    address: Listen,
    member: OwnedFd,
    /// Empty: by the hash.
    program: Vec<sock_filter>,
}

impl Group {
    /// To be called once all its sockets listen. Without a program connections are spread by the hash, which is right, too.
    pub fn steer(&self) {
        match steer(self.member.as_fd(), &self.program) {
            Ok(()) => {}
            // There was none.
            Err(error) if self.program.is_empty() && error.raw_os_error() == Some(libc::ENOENT) => {}
            Err(error) => warn!("{}: new connections are not steered to CPUs: {error}", self.address),
        }
    }
}

/// The groups of this process's own addresses; `data` are the CPUs of the cores that have `listening`. Errors: too many open files.
pub fn groups(
    listening: &[Listening],
    bound: &[Listen],
    data: &[Option<usize>],
    wanted: Steering,
    steered: &Steered,
) -> io::Result<Vec<Group>> {
    let mut groups = Vec::new();
    for (place, address) in bound.iter().enumerate() {
        let (mut places, mut of_group, mut is_known) = (Vec::new(), None, true);
        for (cpu, sockets) in data.iter().zip(listening) {
            let own = sockets.iter().filter(|socket| socket.is_tcp && socket.address == place);
            for (count, socket) in own.filter(|socket| socket.owner == Owner::Gateway).enumerate() {
                of_group = of_group.or(Some(&socket.fd));
                is_known &= socket.member.is_some();
                if let (0, Some(cpu), Some(member)) = (count, cpu, socket.member) {
                    places.push((*cpu as u32, member));
                }
            }
        }
        let Some(member) = of_group else { continue };
        let by_cpu = steered.by == By::Cpu && (wanted == Steering::Cpu || !address.is_local());
        let program = if by_cpu && is_known { program(&places) } else { Vec::new() };
        if by_cpu && !is_known {
            warn!(
                "{address}: new connections are not steered to CPUs before a restart: its sockets come from an older release"
            );
        }
        groups.push(Group { address: address.clone(), member: member.try_clone()?, program });
    }
    Ok(groups)
}

/// Returns the index beside the CPU on which it runs. On others it returns none that exists, and the kernel takes the hash.
fn program(places: &[(u32, u32)]) -> Vec<sock_filter> {
    let instruction = |code: u32, jt, jf, k| sock_filter { code: code as u16, jt, jf, k };
    let answer = |index| instruction(libc::BPF_RET | libc::BPF_K, 0, 0, index);
    let cpu = (libc::SKF_AD_OFF + libc::SKF_AD_CPU) as u32;
    let mut program = vec![instruction(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, cpu)];
    for (cpu, index) in places {
        program.extend([instruction(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, *cpu), answer(*index)]);
    }
    program.push(answer(u32::MAX));
    program
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a program returns on a CPU.
    fn run(program: &[sock_filter], cpu: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = program[at];
            at += 1;
            match code {
                0x20 if k == 0xffff_f024 => accumulator = cpu,
                0x15 => at += usize::from(if accumulator == k { jt } else { jf }),
                0x06 => return k,
                other => panic!("instruction {other:x} with {k:x}"),
            }
        }
    }

    #[test]
    fn each_cpu_has_its_core_and_others_the_hash() {
        for cores in [0, 1, 2, 300] {
            let places: Vec<(u32, u32)> = (0..cores).map(|index| (index * 2 + 1, (index + 7) % cores)).collect();
            let program = program(&places);
            for (cpu, index) in &places {
                assert_eq!(run(&program, *cpu), *index);
                assert_eq!(run(&program, *cpu - 1), u32::MAX, "no socket of any group");
            }
            assert_eq!(run(&program, 4095), u32::MAX);
        }
    }
}
