//! Walls, tried by a process that raises them and then does what it shouldn't be able to.
//!
//! The process is this program again, running `behind_the_walls` alone.

#![allow(unsafe_code)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::net::{
    RecvAncillaryBuffer, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, recvmsg,
    sendmsg,
};

use ingle_walls::{Down, Inherited, Needs, Place, Sockets, Wall, raise};

const PLACE: &str = "WALLS_PLACE";

/// A place with a folder to read, one to write, and one that isn't granted.
fn place() -> tempfile::TempDir {
    let place = tempfile::tempdir().unwrap();
    for folder in ["read", "write/a", "write/b", "other"] {
        fs::create_dir_all(place.path().join(folder)).unwrap();
    }
    for file in ["read/file", "write/a/file", "other/file", "write-file"] {
        fs::write(place.path().join(file), "x").unwrap();
    }
    place
}

/// What each try of one of the tests below came to: `ok`, or the number of its error.
fn behind(test: &str, place: &Path) -> (BTreeMap<String, String>, String) {
    let output = Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PLACE, place)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    let tried = said.lines().filter_map(|line| line.strip_prefix("tried ")?.split_once(": "));
    (tried.map(|(what, came)| (what.to_owned(), came.to_owned())).collect(), said)
}

fn tell<T>(what: &str, tried: io::Result<T>) {
    match tried {
        Ok(_) => println!("tried {what}: ok"),
        Err(error) => println!("tried {what}: {}", error.raw_os_error().unwrap_or(-1)),
    }
}

/// A system call, whose arguments are numbers or nothing.
fn call(number: libc::c_long, arguments: [libc::c_long; 5]) -> io::Result<()> {
    let [a, b, c, d, e] = arguments;
    // SAFETY: the calls below either are refused before their arguments are looked at, or get none that are pointers but null.
    let answer = unsafe { libc::syscall(number, a, b, c, d, e) };
    if answer == -1 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[test]
#[ignore = "it is run by the others, in a process of its own"]
fn behind_the_walls() {
    let place = PathBuf::from(std::env::var_os(PLACE).expect("where to try"));
    let at = |name: &str| place.join(name);
    symlink(at("other/file"), at("write/link")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let needs = Needs {
        read: vec![at("read").into()],
        write: vec![at("write").into(), at("write-file").into()],
        sockets: Sockets::Own(None),
        ..Needs::default()
    };
    // The name of the test stands on this line.
    println!();
    for down in raise(&needs) {
        println!("down {down}");
    }

    tell("reading what may be read", fs::read(at("read/file")));
    tell("writing what may be written", fs::write(at("write/a/new"), "y"));
    tell("writing a file that may be written", fs::write(at("write-file"), "y"));
    tell("moving from folder to folder", fs::rename(at("write/a/file"), at("write/b/file")));
    tell("looking at itself", fs::read("/proc/self/status"));
    let thread = std::thread::spawn(|| fs::read("/etc/passwd").map(drop));
    tell("reading another file in a thread", thread.join().unwrap());
    tell("connecting", std::net::TcpStream::connect(listener.local_addr().unwrap()));
    tell("closing many files", call(libc::SYS_close_range, [9000, 9001, 0, 0, 0]));
    tell("names", fs::read("/etc/hosts").or_else(|_| fs::read("/dev/null")));

    tell("reading another file", fs::read(at("other/file")));
    tell("reading through a link", fs::read(at("write/link")));
    tell("reading through dots", fs::read(at("read/../other/file")));
    tell("listing another folder", fs::read_dir(&place));
    tell("writing what may only be read", fs::write(at("read/file"), "y"));
    tell("making a file elsewhere", fs::write(at("other/new"), "y"));
    tell("removing what may only be read", fs::remove_file(at("read/file")));
    tell("moving out", fs::rename(at("write/a/new"), at("other/new")));
    tell("linking in", fs::hard_link(at("other/file"), at("write/hard")));
    tell("reading passwords", fs::read("/etc/shadow").or_else(|_| fs::read("/etc/passwd")));
    tell(
        "reading another's memory",
        fs::read(format!("/proc/{}/mem", std::os::unix::process::parent_id())),
    );
    tell(
        "reading another's environment",
        fs::read(format!("/proc/{}/environ", std::os::unix::process::parent_id())),
    );
    tell("reading the kernel's settings", fs::read("/proc/sys/kernel/core_pattern"));
    tell("writing devices", fs::write("/dev/kmsg", "y"));

    tell("starting a program", Command::new("/bin/true").status());
    let parent = i64::from(std::os::unix::process::parent_id());
    tell("signalling", call(libc::SYS_kill, [parent, 0, 0, 0, 0]));
    tell("signalling a thread", call(libc::SYS_tgkill, [parent, parent, 0, 0, 0]));
    for (what, number) in [
        ("fork", libc::SYS_clone),
        ("execve", libc::SYS_execve),
        ("ptrace", libc::SYS_ptrace),
        ("process_vm_readv", libc::SYS_process_vm_readv),
        ("mount", libc::SYS_mount),
        ("unshare", libc::SYS_unshare),
        ("setns", libc::SYS_setns),
        ("chroot", libc::SYS_chroot),
        ("bpf", libc::SYS_bpf),
        ("perf_event_open", libc::SYS_perf_event_open),
        ("io_uring_setup", libc::SYS_io_uring_setup),
        ("userfaultfd", libc::SYS_userfaultfd),
        ("keyctl", libc::SYS_keyctl),
        ("add_key", libc::SYS_add_key),
        ("setuid", libc::SYS_setuid),
        ("init_module", libc::SYS_init_module),
        ("open_by_handle_at", libc::SYS_open_by_handle_at),
        ("pidfd_open", libc::SYS_pidfd_open),
        ("fchmod", libc::SYS_fchmod),
        ("fchmodat", libc::SYS_fchmodat),
        ("fchownat", libc::SYS_fchownat),
        ("setxattr", libc::SYS_setxattr),
        ("mknodat", libc::SYS_mknodat),
        ("personality", libc::SYS_personality),
        ("reboot", libc::SYS_reboot),
        ("seccomp", libc::SYS_seccomp),
    ] {
        tell(what, call(number, [0; 5]));
    }
    tell("clone3", call(libc::SYS_clone3, [0; 5]));
    for (what, family) in
        [("unix", libc::AF_UNIX), ("netlink", libc::AF_NETLINK), ("packet", libc::AF_PACKET)]
    {
        let socket = [i64::from(family), i64::from(libc::SOCK_DGRAM), 0, 0, 0];
        tell(&format!("a {what} socket"), call(libc::SYS_socket, socket));
    }
    let raw =
        [i64::from(libc::AF_INET), i64::from(libc::SOCK_RAW), i64::from(libc::IPPROTO_ICMP), 0, 0];
    tell("a raw socket", call(libc::SYS_socket, raw));
    let sctp = [i64::from(libc::AF_INET), i64::from(libc::SOCK_STREAM), 132, 0, 0];
    tell("an sctp socket", call(libc::SYS_socket, sctp));
    let pair = [i64::from(libc::AF_UNIX), i64::from(libc::SOCK_DGRAM), 0, 0, 0];
    tell("a pair that can be connected", call(libc::SYS_socketpair, pair));
    tell(
        "signals by a descriptor",
        call(libc::SYS_fcntl, [0, i64::from(libc::F_SETOWN), parent, 0, 0]),
    );
    let own = fs::File::open("/dev/null").unwrap();
    let own = i64::from(std::os::fd::AsRawFd::as_raw_fd(&own));
    let lease = [own, 1024, i64::from(libc::F_RDLCK), 0, 0];
    tell("keeping others from opening a file", call(libc::SYS_fcntl, lease));
    tell("being told of a folder", call(libc::SYS_fcntl, [own, 1026, 1, 0, 0]));
    let thread = libc::CLONE_VM | libc::CLONE_SIGHAND | libc::CLONE_THREAD;
    tell("a thread with files of its own", call(libc::SYS_clone, [thread.into(), 0, 0, 0, 0]));
    tell("files of its own", call(libc::SYS_close_range, [9000, 9000, 2, 0, 0]));
    tell("listening", TcpListener::bind("127.0.0.1:0"));
    tell("another's times", call(libc::SYS_utimensat, [i64::from(libc::AT_FDCWD), 1, 0, 0, 0]));
    tell("typing into a terminal", call(libc::SYS_ioctl, [0, 0x5412, 0, 0, 0]));
    tell("being dumpable again", call(libc::SYS_prctl, [4, 1, 0, 0, 0]));
    let core = rustix::process::getrlimit(rustix::process::Resource::Core);
    println!("tried the size of a core: {:?}", core.maximum);
    let locked = rustix::process::getrlimit(rustix::process::Resource::Memlock);
    let files = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let bounded = files.maximum.is_some_and(|most| most <= 65_536) && locked.maximum == Some(0);
    println!("tried the limits: {bounded}");
    println!("tried the end: ok");
}

#[test]
fn a_process_goes_on_using_what_it_needs_and_nothing_else() {
    let place = place();
    let (tried, said) = behind("behind_the_walls", place.path());
    assert!(tried.contains_key("the end"), "it came to its end:\n{said}");
    let down: Vec<_> = said.lines().filter(|line| line.starts_with("down ")).collect();
    if !down.is_empty() {
        // Of a host without them nothing can be shown; `ingle doctor` says so too.
        eprintln!("SKIPPED: this host lacks walls:\n{}", down.join("\n"));
        return;
    }
    let came = |what: &str| tried.get(what).map(String::as_str).unwrap_or("not tried");
    for what in [
        "reading what may be read",
        "writing what may be written",
        "writing a file that may be written",
        "moving from folder to folder",
        "looking at itself",
        "closing many files",
        "connecting",
        "names",
    ] {
        assert_eq!(came(what), "ok", "{what}\n{said}");
    }
    let denied = [libc::EACCES, libc::EPERM, libc::EXDEV].map(|code| code.to_string());
    let mut refused = 0;
    for (what, came) in &tried {
        if came == "ok" || what == "clone3" || what.starts_with("the ") {
            continue;
        }
        assert!(denied.contains(came), "{what}: {came}\n{said}");
        refused += 1;
    }
    assert_eq!(refused, 59, "each of them:\n{said}");
    assert_eq!(came("clone3"), libc::ENOSYS.to_string(), "as if it weren't there");
    assert_eq!(came("the size of a core"), "Some(0)");
    assert_eq!(came("the limits"), "true");
    assert_eq!(fs::read_to_string(place.path().join("other/file")).unwrap(), "x");
}

/// `sendmsg` with a descriptor, to whoever is at the other end.
fn hand_on(socket: &UnixStream) -> io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let stdin = io::stdin();
    let handed = [stdin.as_fd()];
    assert!(control.push(SendAncillaryMessage::ScmRights(&handed)));
    sendmsg(socket, &[io::IoSlice::new(b"x")], &mut control, SendFlags::empty())?;
    Ok(())
}

fn udp(to: SocketAddr) -> io::Result<()> {
    UdpSocket::bind("127.0.0.1:0")?.send_to(b"x", to).map(drop)
}

#[test]
#[ignore = "it is run by the others, in a process of its own"]
fn behind_the_walls_without_a_network() {
    let outside = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = outside.local_addr().unwrap();
    let own = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut had = TcpStream::connect(address).unwrap();
    let (mut other, _) = outside.accept().unwrap();
    let mut called = TcpStream::connect(own.local_addr().unwrap()).unwrap();
    let datagram = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (worker, socket) = UnixStream::pair().unwrap();
    hand_on(&worker).unwrap();
    println!();
    for down in raise(&Needs::default()) {
        println!("down {down}");
    }

    tell("using a connection", had.write_all(b"x").and_then(|()| other.read_exact(&mut [0])));
    tell("being called", own.accept().and_then(|_| called.write_all(b"x")));
    let pair = UnixStream::pair().and_then(|(mut a, _b)| a.write_all(b"x"));
    tell("pairs of its own", pair);
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    let into = &mut [io::IoSliceMut::new(&mut byte)];
    let received = recvmsg(&socket, into, &mut control, RecvFlags::empty());
    tell("being handed a descriptor", received.map_err(io::Error::from));
    assert!(control.drain().next().is_some(), "it came");

    tell("connecting", TcpStream::connect(address));
    tell("connecting elsewhere", TcpStream::connect("192.0.2.1:80"));
    tell("listening", TcpListener::bind("127.0.0.1:0"));
    tell("sending datagrams", udp(address));
    tell("a datagram by a socket that it has", datagram.send_to(b"x", address));
    tell("connecting what it has", datagram.connect(address));
    tell("handing a descriptor on", hand_on(&socket));
    for (what, number) in [
        ("bind", libc::SYS_bind),
        ("connect", libc::SYS_connect),
        ("listen", libc::SYS_listen),
        ("sendmmsg", libc::SYS_sendmmsg),
    ] {
        tell(what, call(number, [0; 5]));
    }
    println!("tried the end: ok");
}

#[test]
fn a_process_without_a_network_uses_the_connections_that_it_has() {
    let place = place();
    let (tried, said) = behind("behind_the_walls_without_a_network", place.path());
    assert!(tried.contains_key("the end"), "it came to its end:\n{said}");
    if said.contains("down the wall `network`") {
        eprintln!("SKIPPED: this host lacks walls:\n{said}");
        return;
    }
    for what in
        ["using a connection", "being called", "pairs of its own", "being handed a descriptor"]
    {
        assert_eq!(tried.get(what).map(String::as_str), Some("ok"), "{what}\n{said}");
    }
    let refused = tried.values().filter(|came| **came == libc::EPERM.to_string()).count();
    assert_eq!((refused, tried.len()), (11, 16), "{said}");
}

#[test]
#[ignore = "it is run by the others, in a process of its own"]
fn behind_the_walls_of_what_was_opened() {
    let place = PathBuf::from(std::env::var_os(PLACE).expect("where to try"));
    let at = |name: &str| place.join(name);
    let open = |name: &str| {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Place::from(openat(CWD, at(name), flags, Mode::empty()).unwrap())
    };
    let needs = Needs {
        read: vec![open("read"), at("named").into()],
        write: vec![open("write"), open("write-file")],
        ..Needs::default()
    };
    // Somebody puts links where these were.
    for name in ["read", "write", "write-file"] {
        fs::rename(at(name), at(&format!("{name}-moved"))).unwrap();
    }
    symlink(at("other"), at("read")).unwrap();
    symlink(at("others"), at("write")).unwrap();
    symlink(at("other/file"), at("write-file")).unwrap();
    println!();
    for down in raise(&needs) {
        println!("down {down}");
    }
    tell("reading what was opened", fs::read(at("read-moved/file")));
    tell("writing what was opened", fs::write(at("write-moved/a/new"), "y"));
    tell("writing a file that was opened", fs::write(at("write-file-moved"), "y"));
    tell("reading what has its path", fs::read(at("named/file")));
    tell("reading what took its name", fs::read(at("other/file")));
    tell("reading through what took its name", fs::read(at("read/file")));
    tell("writing what took its name", fs::write(at("others/new"), "y"));
    tell("writing through what took its name", fs::write(at("write-file"), "y"));
    println!("tried the end: ok");
}

#[test]
fn what_takes_the_name_of_what_was_opened_is_not_opened_for_it() {
    let place = place();
    for folder in ["named", "others"] {
        fs::create_dir_all(place.path().join(folder)).unwrap();
    }
    fs::write(place.path().join("named/file"), "x").unwrap();
    let (tried, said) = behind("behind_the_walls_of_what_was_opened", place.path());
    assert!(tried.contains_key("the end"), "it came to its end:\n{said}");
    if said.contains("down ") {
        eprintln!("SKIPPED: this host lacks walls:\n{said}");
        return;
    }
    for (what, came) in &tried {
        let opened = what.ends_with("opened") || what.ends_with("its path");
        let expected = if what == "the end" || opened { "ok" } else { "13" };
        assert_eq!(came, expected, "{what}\n{said}");
    }
    assert_eq!(tried.len(), 9, "{said}");
}

#[test]
#[ignore = "it is run by the others, in a process of its own"]
fn behind_the_walls_with_a_port() {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let [granted, other] = listeners.each_ref().map(|listener| listener.local_addr().unwrap());
    println!();
    let sockets = Sockets::Own(Some(vec![granted.port()]));
    for down in raise(&Needs { sockets, ..Needs::default() }) {
        println!("down {down}");
    }
    tell("connecting to what was granted", TcpStream::connect(granted));
    tell("connecting to another port", TcpStream::connect(other));
    println!("tried the end: ok");
}

#[test]
fn a_process_with_a_port_connects_to_no_other() {
    let place = place();
    let (tried, said) = behind("behind_the_walls_with_a_port", place.path());
    assert!(tried.contains_key("the end"), "it came to its end:\n{said}");
    let came = |what: &str| tried.get(what).map(String::as_str);
    assert_eq!(came("connecting to what was granted"), Some("ok"), "{said}");
    // The walls say nothing of it: landlock knows of ports as of Linux 6.7, and `signals` as of 6.12.
    if said.contains("down ") {
        eprintln!("SKIPPED: this host lacks walls:\n{said}");
        return;
    }
    assert_eq!(came("connecting to another port"), Some(&*libc::EACCES.to_string()), "{said}");
}

#[test]
#[ignore = "it is run by the others, in a process of its own"]
fn behind_the_walls_of_who_submits() {
    let place = PathBuf::from(std::env::var_os(PLACE).expect("where to try"));
    let at = |name: &str| place.join(name);
    fs::create_dir_all(at("empty")).unwrap();
    let had = fs::File::open(at("read/file")).unwrap();
    let inherited = Inherited::note().unwrap();
    let mut own = fs::File::open(at("read/file")).unwrap();
    println!();
    inherited.close();
    let descriptor = std::os::fd::IntoRawFd::into_raw_fd(had);
    let flags = call(libc::SYS_fcntl, [descriptor.into(), libc::F_GETFD.into(), 0, 0, 0]);
    tell("using what was left open", flags);
    tell("using its own", own.read_exact(&mut [0]));
    let needs = Needs {
        write: vec![at("write").into()],
        clear: vec![place.clone()],
        owns_all: true,
        ..Needs::default()
    };
    for down in raise(&needs) {
        println!("down {down}");
    }
    tell("removing an empty folder", fs::remove_dir(at("empty")));
    tell("removing one in what it may write", fs::remove_dir_all(at("write/a")));
    tell("removing a file", fs::remove_file(at("other/file")));
    tell("making a folder", fs::create_dir(at("new")));
    tell("moving a folder", fs::rename(at("other"), at("another")));
    tell("listing the folder", fs::read_dir(&place));
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let left = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap_or("none");
    println!("tried the capabilities: {}", left.trim().trim_start_matches('0'));
    println!("tried the end: ok");
}

#[test]
fn a_process_removes_its_empty_folder_and_keeps_what_opens_files_of_others() {
    let place = place();
    let (tried, said) = behind("behind_the_walls_of_who_submits", place.path());
    assert!(tried.contains_key("the end"), "it came to its end:\n{said}");
    let came = |what: &str| tried.get(what).map(String::as_str).unwrap_or("not tried");
    assert_eq!(came("using what was left open"), libc::EBADF.to_string(), "{said}");
    assert_eq!(came("using its own"), "ok", "{said}");
    if said.contains("down ") {
        eprintln!("SKIPPED: this host lacks walls:\n{said}");
        return;
    }
    assert_eq!(came("removing an empty folder"), "ok", "{said}");
    assert_eq!(came("removing one in what it may write"), "ok", "{said}");
    let denied = [libc::EACCES, libc::EXDEV].map(|code| code.to_string());
    for what in ["removing a file", "making a folder", "moving a folder", "listing the folder"] {
        assert!(denied.contains(&came(what).to_owned()), "{what}\n{said}");
    }
    let kept = if rustix::process::geteuid().is_root() { "2" } else { "" };
    assert_eq!(came("the capabilities"), kept, "{said}");
}

#[test]
fn walls_have_names_and_are_told_line_by_line() {
    for wall in Wall::ALL {
        assert_eq!(Wall::named(wall.name()), Some(wall));
        assert!(!wall.meaning().is_empty() && !wall.remedy().is_empty());
    }
    assert_eq!(Wall::named("moat"), None);
    let down = Down { wall: Wall::Calls, why: "no\nwords\there".into() };
    let read = Down::read(&format!("noise\n{}moat\tdry\n", down.line()));
    assert_eq!(read, [Down { wall: Wall::Calls, why: "no words here".into() }]);
}
