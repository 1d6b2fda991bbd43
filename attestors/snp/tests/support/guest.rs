//! A SIMULATED confidential guest: the folder of configfs-tsm and the tests' own processor behind it.
//!
//! Whoever takes this in has the modules `forge` and `simulator` beside it.

use super::forge::Machine;
use super::simulator::Platform;
use super::simulator::Simulator;

/// Signs whatever report data it is asked for, as this machine, and pads what it gives.
pub fn start(machine: Machine, provider: &'static str, padding: Vec<u8>) -> Simulator {
    let answer = move |data: &[u8], level: &str| {
        let shown = machine
            .clone()
            .with(|m| {
                m.set(0x050, &[0; 64]);
                m.set(0x050, data);
                m.set(0x030, &[level.parse().unwrap_or(0)]);
            })
            .show();
        let vlek = machine.vek.subject == "SEV-VLEK";
        ([shown.report.as_slice(), &padding].concat(), shown.host_table(vlek))
    };
    Simulator::start(Platform {
        provider,
        privilege_floor: None,
        answer: Box::new(answer),
        interfere: 0,
    })
}
