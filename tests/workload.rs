//! Workload attestation against real processes: recycled pids, exec under our eyes, changed ids,
//! false names. The processes are this test binary run again with a role in its environment.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use assay::clock::Clock;
use assay::workload::ExecutableDigests;
use assay::workload::Facts;
use assay::workload::Peer;
use assay::workload::WorkloadError;
use assay_evidence::crypto;

const ROLE: &str = "ASSAY_TEST_ROLE";
const SOCKET: &str = "ASSAY_TEST_SOCKET";
const OTHER: &str = "ASSAY_TEST_OTHER";

/// Not a test of its own: what the started processes do.
#[test]
#[allow(clippy::zombie_processes)] // the heir is meant to outlive this process
fn role() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let connect = || UnixStream::connect(std::env::var(SOCKET).unwrap()).unwrap();
    match role.as_str() {
        "stay" => wait_for_end(&mut connect()),
        // The socket goes on in a child that outlives this process.
        "hand-over-and-end" => {
            let mut socket = connect();
            let inherited = OwnedFd::from(socket.try_clone().unwrap());
            let heir = Command::new("sleep").arg("60").stdin(inherited).spawn().unwrap();
            println!("heir {}", heir.id());
            socket.read_exact(&mut [0]).unwrap();
        }
        "exec-on-byte" => {
            let mut socket = connect();
            socket.read_exact(&mut [0]).unwrap();
            let error = Command::new("sleep").arg("60").stdin(OwnedFd::from(socket)).exec();
            panic!("{error}");
        }
        "setuid-on-byte" => {
            let mut socket = connect();
            socket.read_exact(&mut [0]).unwrap();
            nix::unistd::setuid(nix::unistd::Uid::from_raw(65_534)).unwrap();
            socket.write_all(&[1]).unwrap();
            wait_for_end(&mut socket);
        }
        // Becomes the other program again and again, keeping its pid.
        "flicker" => {
            if std::env::var_os("ASSAY_TEST_CONNECTED").is_none() {
                let socket = connect();
                let error =
                    again().env("ASSAY_TEST_CONNECTED", "1").stdin(OwnedFd::from(socket)).exec();
                panic!("{error}");
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
            let own = std::env::current_exe().unwrap();
            let other = std::env::var(OTHER).unwrap();
            let error = play(Path::new(&other), "flicker").env(OTHER, own).exec();
            panic!("{error}");
        }
        other => panic!("no role `{other}`"),
    }
}

fn wait_for_end(socket: &mut UnixStream) {
    let _ = socket.read(&mut [0]);
}

fn again() -> Command {
    play(&std::env::current_exe().unwrap(), &std::env::var(ROLE).unwrap())
}

fn play(program: &Path, role: &str) -> Command {
    let mut command = Command::new(program);
    command.args(["--exact", "role", "--nocapture", "--test-threads=1"]).env(ROLE, role);
    command
}

/// A listening socket in a folder of its own, and the processes that were started.
struct Scene {
    folder: tempfile::TempDir,
    listener: UnixListener,
    children: Vec<Child>,
}

impl Scene {
    fn new() -> Scene {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join("s")).unwrap();
        Scene { folder, listener, children: Vec::new() }
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("s")
    }

    fn start(&mut self, command: &mut Command) -> (UnixStream, Peer) {
        let child = command.env(SOCKET, self.socket()).stdout(Stdio::piped()).spawn().unwrap();
        self.children.push(child);
        let (stream, _) = self.listener.accept().unwrap();
        let peer = Peer::of(&stream).unwrap();
        (stream, peer)
    }

    fn play(&mut self, role: &str) -> (UnixStream, Peer) {
        self.start(&mut play(&std::env::current_exe().unwrap(), role))
    }

    fn copy_of_self(&self, name: &str, tail: &[u8]) -> PathBuf {
        let path = self.folder.path().join(name);
        let mut bytes = fs::read(std::env::current_exe().unwrap()).unwrap();
        bytes.extend_from_slice(tail);
        fs::write(&path, bytes).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        path
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn digests() -> ExecutableDigests {
    ExecutableDigests::new(1 << 30, Clock::machine())
}

fn read(peer: &Peer) -> Result<Facts, WorkloadError> {
    Facts::read(peer, Some(&digests()))
}

fn selectors(facts: &Facts) -> BTreeSet<String> {
    facts.selectors().iter().map(ToString::to_string).collect()
}

#[test]
fn a_connected_process_is_known_by_its_ids_path_and_digest() {
    let mut scene = Scene::new();
    let (_stream, peer) = scene.play("stay");
    let facts = read(&peer).unwrap();
    let own = std::env::current_exe().unwrap();
    let sha256 = hex::encode(crypto::sha256(&fs::read(&own).unwrap()));
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).unwrap().unwrap().name;
    let found = selectors(&facts);
    assert_eq!(facts.pid, scene.children[0].id());
    for expected in [
        format!("unix:uid:{uid}"),
        format!("unix:gid:{}", nix::unistd::getegid()),
        format!("unix:user:{user}"),
        format!("unix:path:{}", own.display()),
        format!("unix:sha256:{sha256}"),
    ] {
        assert!(found.contains(&expected), "{expected} not in {found:?}");
    }
    for group in nix::unistd::getgroups().unwrap() {
        assert!(found.contains(&format!("unix:supplementary_gid:{group}")), "{found:?}");
    }
}

#[test]
fn a_digest_that_nobody_asks_for_is_not_made() {
    let mut scene = Scene::new();
    let (_stream, peer) = scene.play("stay");
    let facts = Facts::read(&peer, None).unwrap();
    assert_eq!(facts.sha256, None);
    assert!(facts.path.is_some());
}

#[test]
fn a_process_that_ended_is_not_attested_though_its_socket_lives_on() {
    let mut scene = Scene::new();
    let (mut stream, peer) = scene.play("hand-over-and-end");
    let heir = heir(&mut scene);
    stream.write_all(&[1]).unwrap();
    scene.children[0].wait().unwrap();
    assert!(matches!(read(&peer), Err(WorkloadError::Gone { .. })));
    end(heir);
}

#[test]
fn a_recycled_pid_is_not_taken_for_the_process_that_connected() {
    const LAST: &str = "/proc/sys/kernel/ns_last_pid";
    let mut scene = Scene::new();
    let (mut stream, peer) = scene.play("hand-over-and-end");
    let pid = peer.pid();
    let heir = heir(&mut scene);
    stream.write_all(&[1]).unwrap();
    scene.children[0].wait().unwrap();
    // The kernel lets a privileged process choose the next pid; somebody else may be quicker.
    let mut successor = None;
    for _ in 0..200 {
        if fs::write(LAST, (pid - 1).to_string()).is_err() {
            eprintln!("not shown here: choosing a pid needs privilege");
            break;
        }
        let mut child = Command::new("sleep").arg("60").spawn().unwrap();
        if child.id() == pid {
            successor = Some(child);
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    assert!(matches!(read(&peer), Err(WorkloadError::Gone { .. })));
    assert!(!peer.is_alive());
    if let Some(mut successor) = successor {
        successor.kill().unwrap();
        successor.wait().unwrap();
    }
    end(heir);
}

#[test]
fn a_process_that_execs_another_program_has_that_programs_facts() {
    let mut scene = Scene::new();
    let (mut stream, peer) = scene.play("exec-on-byte");
    let before = read(&peer).unwrap();
    stream.write_all(&[1]).unwrap();
    let mut after = before.clone();
    while after.path == before.path {
        // In the middle of exec the process is between two programs.
        match read(&peer) {
            Ok(facts) => after = facts,
            Err(WorkloadError::Unsteady { .. }) => continue,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!((after.pid, after.start_time), (before.pid, before.start_time));
    assert!(after.path.unwrap().ends_with("/sleep"));
    assert_ne!(after.sha256, before.sha256);
}

#[test]
fn path_and_digest_are_never_of_two_different_programs() {
    let mut scene = Scene::new();
    let [one, two] = ["one", "two"].map(|name| scene.copy_of_self(name, name.as_bytes()));
    let (_stream, peer) = scene.start(play(&one, "flicker").env(OTHER, &two));
    let digests = digests();
    let mut seen = BTreeSet::new();
    for _ in 0..400 {
        let facts = match Facts::read(&peer, Some(&digests)) {
            Ok(facts) => facts,
            Err(WorkloadError::Unsteady { .. }) => continue,
            Err(error) => panic!("{error}"),
        };
        let path = facts.path.unwrap();
        let expected = crypto::sha256(&fs::read(&path).unwrap());
        assert_eq!(facts.sha256.unwrap(), expected, "{path}");
        seen.insert(path);
    }
    assert!(!seen.is_empty());
}

#[test]
fn a_process_whose_ids_changed_since_it_connected_is_refused() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("not shown here: changing ids needs privilege");
        return;
    }
    let mut scene = Scene::new();
    let (mut stream, peer) = scene.play("setuid-on-byte");
    assert!(read(&peer).is_ok());
    stream.write_all(&[1]).unwrap();
    stream.read_exact(&mut [0]).unwrap();
    let refused = read(&peer).unwrap_err();
    assert!(
        matches!(refused, WorkloadError::CredentialsChanged { then_uid: 0, now_uid: 65_534, .. }),
        "{refused}"
    );
}

#[test]
fn a_name_made_up_in_a_mount_namespace_is_no_fact() {
    let possible = Command::new("unshare").args(["-Urm", "true"]).status();
    if !possible.is_ok_and(|status| status.success()) {
        eprintln!("not shown here: no user namespaces");
        return;
    }
    let mut scene = Scene::new();
    let genuine = scene.copy_of_self("genuine", b"genuine");
    let false_one = scene.copy_of_self("false", b"false");
    let script = format!(
        "mount --bind {} {} && exec {} --exact role --nocapture",
        false_one.display(),
        genuine.display(),
        genuine.display()
    );
    let mut command = Command::new("unshare");
    command.args(["-Urm", "sh", "-c", &script]).env(ROLE, "stay");
    let (_stream, peer) = scene.start(&mut command);
    let facts = read(&peer).unwrap();
    assert_eq!(facts.path, None);
    assert_eq!(facts.sha256.unwrap(), crypto::sha256(&fs::read(&false_one).unwrap()));
    let (_stream, honest) = scene.start(&mut play(&genuine, "stay"));
    assert_eq!(read(&honest).unwrap().path.as_deref(), genuine.to_str());
}

#[test]
fn a_deleted_executable_has_a_digest_and_no_path() {
    let mut scene = Scene::new();
    let program = scene.copy_of_self("program", b"");
    let (_stream, peer) = scene.start(&mut play(&program, "stay"));
    let sha256 = crypto::sha256(&fs::read(&program).unwrap());
    fs::remove_file(&program).unwrap();
    fs::write(&program, "another").unwrap();
    let facts = read(&peer).unwrap();
    assert_eq!((facts.path, facts.sha256), (None, Some(sha256)));
}

/// The process that holds the socket on, named on the first one's output.
fn heir(scene: &mut Scene) -> i32 {
    let mut text = String::new();
    let mut output = scene.children[0].stdout.take().unwrap();
    while !text.contains("heir ") || !text.ends_with('\n') {
        let mut byte = [0];
        output.read_exact(&mut byte).unwrap();
        text.push(char::from(byte[0]));
    }
    text.rsplit(' ').next().unwrap().trim().parse().unwrap()
}

fn end(pid: i32) {
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL);
}
