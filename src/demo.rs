//! `assay demo`: the whole story on one machine, with real software TPMs.
//!
//! Three swtpm TPMs (one for the server, one for each of two hosts), a server whose CA key is made
//! inside its TPM, two agents that attest with their hosts' TPMs, workloads that fetch SVIDs and
//! talk mTLS; then host B boots something else. Everything is done with the commands a user has:
//! the demo runs this very binary as its children. Nothing is left behind unless `--keep`.

mod screen;
pub mod stage;
mod story;

use std::io::Read;

use anyhow::Context;
use anyhow::Result;
use anyhow::bail;
use clap::Args;

use screen::Screen;
use stage::Setup;
use stage::Stage;

#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Leave everything running afterwards, and say what to try next
    #[arg(long)]
    keep: bool,
    /// Seconds between two quotes of a host
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(2..=60))]
    refresh: u64,
}

/// Programs that the demo runs beside this one.
const NEEDS: [&str; 3] = ["openssl", "setpriv", "id"];

pub fn run(args: DemoArgs) -> Result<()> {
    let mut missing = assay_swtpm::missing_programs();
    missing.extend(NEEDS.into_iter().filter(|program| !on_path(program)));
    if !missing.is_empty() {
        bail!(
            "programs are missing: {}; on Debian: apt-get install swtpm swtpm-tools openssl",
            missing.join(", ")
        );
    }
    let screen = Screen::new();
    let interrupted = stage::interrupts().context("cannot wait for Ctrl-C")?;
    let mut stage = Stage::set(Setup {
        program: std::env::current_exe().context("cannot find this program itself")?,
        hosts: &["host-a", "host-b"],
        refresh: args.refresh,
        interrupted,
    })?;
    let told = story::tell(&mut stage, &screen);
    if let Err(error) = told {
        if stage.interrupted() {
            screen.note("interrupted; everything is stopped and removed");
            return Ok(());
        }
        let kept = stage.keep_logs();
        screen.note(&format!("something did not hold; the logs are in `{}`", kept.display()));
        return Err(error);
    }
    if args.keep {
        screen.section("Running. Try, in another terminal:");
        for line in story::next_steps(&stage) {
            screen.line(&line);
        }
        screen.note("Enter or Ctrl-C stops everything and leaves nothing behind");
        wait(&stage);
    }
    Ok(())
}

/// Waits for Enter, the end of input, or Ctrl-C.
fn wait(stage: &Stage) {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut byte = [0];
        let _ = std::io::stdin().read(&mut byte);
        let _ = sender.send(());
    });
    while !stage.interrupted() {
        if receiver.recv_timeout(std::time::Duration::from_millis(200)).is_ok() {
            return;
        }
    }
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|paths| std::env::split_paths(&paths).any(|dir| dir.join(program).is_file()))
}
