//! Seccomp: which system calls a process may make.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter_all_threads,
};

use crate::Sockets;

/// Those that runtime, allocator, files, sockets and threads need, with any arguments.
const ALLOWED: &[libc::c_long] = &[
    // Memory.
    libc::SYS_brk,
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_madvise,
    libc::SYS_mincore,
    libc::SYS_msync,
    libc::SYS_memfd_create,
    libc::SYS_membarrier,
    // Threads and time.
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_rseq,
    libc::SYS_set_tid_address,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_getcpu,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_restart_syscall,
    // Signals: the engine's traps.
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_sigaltstack,
    // Who it is.
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_uname,
    libc::SYS_sysinfo,
    libc::SYS_getrusage,
    libc::SYS_times,
    libc::SYS_getrandom,
    // Files.
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_close,
    libc::SYS_read,
    libc::SYS_write,
    libc::SYS_readv,
    libc::SYS_writev,
    libc::SYS_pread64,
    libc::SYS_pwrite64,
    libc::SYS_preadv,
    libc::SYS_pwritev,
    libc::SYS_preadv2,
    libc::SYS_pwritev2,
    libc::SYS_lseek,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_getdents64,
    libc::SYS_flock,
    libc::SYS_ftruncate,
    libc::SYS_fallocate,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync_file_range,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_copy_file_range,
    libc::SYS_sendfile,
    libc::SYS_splice,
    libc::SYS_mkdirat,
    libc::SYS_unlinkat,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_linkat,
    libc::SYS_symlinkat,
    libc::SYS_readlinkat,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_umask,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_pipe2,
    // Waiting.
    libc::SYS_eventfd2,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    // Connections, once there are any.
    libc::SYS_accept4,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_setsockopt,
    libc::SYS_getsockopt,
    libc::SYS_shutdown,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_arch_prctl,
    // Older names, which C libraries still use.
    #[cfg(target_arch = "x86_64")]
    libc::SYS_open,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_stat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lstat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_access,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_readlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_unlink,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rmdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_mkdir,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_rename,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_dup2,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_time,
];

/// And those that make connections, and say where to. Who listens does so before the walls stand, and then only takes what comes.
const CONNECTING: &[libc::c_long] = &[
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    libc::SYS_recvmmsg,
];

/// `prctl`: the names of threads and of memory.
const NAMES: [u64; 3] = [15, 16, 0x5356_4d41];
/// `fcntl`, as of Linux: which signal, and to whom; that others who open a file are to wait, and that one is told what happens in a folder.
const F_SETSIG: libc::c_int = 10;
const F_SETOWN_EX: libc::c_int = 15;
const F_SETLEASE: libc::c_int = 1024;
const F_NOTIFY: libc::c_int = 1026;
/// `close_range`: of a table of descriptors that is the thread's alone from then on.
const CLOSE_RANGE_UNSHARE: u64 = 2;
/// `ioctl`: not to block, to be closed on exec, how much there is to read, whether it is a terminal (in two
/// ways), and how large that is.
const CONTROLS: [u64; 6] = [0x5421, 0x5451, 0x541b, 0x5401, 0x802c_542a, 0x5413];

/// Refuses all other calls, in all threads, as not permitted.
pub(crate) fn filter(sockets: &Sockets) -> Result<(), String> {
    // A C library that isn't given clone3, whose flags a filter can't see, takes clone.
    let unknown = program(
        BTreeMap::from([(libc::SYS_clone3, Vec::new())]),
        SeccompAction::Allow,
        SeccompAction::Errno(libc::ENOSYS as u32),
    )?;
    let rules = rules(sockets)?;
    let allowed = program(rules, SeccompAction::Errno(libc::EPERM as u32), SeccompAction::Allow)?;
    apply_filter_all_threads(&unknown).map_err(|e| e.to_string())?;
    apply_filter_all_threads(&allowed).map_err(|e| e.to_string())
}

fn program(
    rules: BTreeMap<libc::c_long, Vec<SeccompRule>>,
    other: SeccompAction,
    listed: SeccompAction,
) -> Result<BpfProgram, String> {
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| e.to_string())?;
    let filter = SeccompFilter::new(rules, other, listed, arch).map_err(|e| e.to_string())?;
    filter.try_into().map_err(|e: seccompiler::BackendError| e.to_string())
}

fn rules(own: &Sockets) -> Result<BTreeMap<libc::c_long, Vec<SeccompRule>>, String> {
    let this = u64::from(std::process::id());
    let mut rules: BTreeMap<libc::c_long, Vec<SeccompRule>> =
        ALLOWED.iter().map(|call| (*call, Vec::new())).collect();
    // Allowed as well, for `clone3` is answered before.
    rules.insert(libc::SYS_clone3, Vec::new());
    // Threads, and no processes. What one of them has open, all have: the worker looks at what a process holds, not at each of its threads.
    let thread = (libc::CLONE_THREAD | libc::CLONE_FILES) as u64;
    rules.insert(libc::SYS_clone, vec![argument(0, SeccompCmpOp::MaskedEq(thread), thread)?]);
    let unshare = SeccompCmpOp::MaskedEq(CLOSE_RANGE_UNSHARE);
    rules.insert(libc::SYS_close_range, vec![argument(2, unshare, 0)?]);
    match own {
        Sockets::Own(_) => {
            rules.extend(CONNECTING.iter().map(|call| (*call, Vec::new())));
            rules.insert(libc::SYS_socket, internet()?);
        }
        // What it sends goes where the other end of a connection is: no address may be named.
        Sockets::Handed => {
            let nowhere = SeccompCondition::new(4, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0);
            rules.insert(libc::SYS_sendto, vec![rule([nowhere])?]);
        }
    }
    // Pairs that can't be sent elsewhere.
    let pair = [is(0, libc::AF_UNIX as u64), kind_is(libc::SOCK_STREAM as u64)];
    rules.insert(libc::SYS_socketpair, vec![rule(pair)?]);
    // Signals that a descriptor sends go to whom its owner names.
    let commands = [libc::F_SETOWN, F_SETSIG, F_SETOWN_EX, F_SETLEASE, F_NOTIFY];
    let commands = commands.map(|command| command as u64);
    rules.insert(
        libc::SYS_fcntl,
        vec![rule(commands.map(|command| {
            SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, command)
        }))?],
    );
    // Of what is open: modes and times of other files are no business of a guest's, and landlock doesn't look at them.
    let open = SeccompCondition::new(1, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, 0);
    rules.insert(libc::SYS_utimensat, vec![rule([open])?]);
    // A thread's own mask of permissions, to make one folder with others.
    rules.insert(libc::SYS_unshare, one_of(0, &[libc::CLONE_FS as u64])?);
    rules.insert(libc::SYS_prctl, one_of(0, &NAMES)?);
    rules.insert(libc::SYS_ioctl, one_of(1, &CONTROLS)?);
    rules.insert(libc::SYS_prlimit64, one_of(0, &[0, this])?);
    // To abort.
    rules.insert(libc::SYS_tgkill, one_of(0, &[this])?);
    Ok(rules)
}

/// `socket`: TCP and UDP, and nothing else of the internet's.
fn internet() -> Result<Vec<SeccompRule>, String> {
    let [tcp, udp] = [libc::IPPROTO_TCP, libc::IPPROTO_UDP].map(|of| of as u64);
    let [stream, datagram] = [libc::SOCK_STREAM, libc::SOCK_DGRAM].map(|of| of as u64);
    let mut sockets = Vec::new();
    for domain in [libc::AF_INET, libc::AF_INET6].map(|of| of as u64) {
        for (kind, protocol) in [(stream, 0), (stream, tcp), (datagram, 0), (datagram, udp)] {
            sockets.push(rule([is(0, domain), kind_is(kind), is(2, protocol)])?);
        }
    }
    Ok(sockets)
}

fn one_of(index: u8, values: &[u64]) -> Result<Vec<SeccompRule>, String> {
    values.iter().map(|value| argument(index, SeccompCmpOp::Eq, *value)).collect()
}

type Condition = Result<SeccompCondition, seccompiler::BackendError>;

/// All of these hold.
fn rule(conditions: impl IntoIterator<Item = Condition>) -> Result<SeccompRule, String> {
    let conditions = conditions.into_iter().collect::<Result<Vec<_>, _>>();
    conditions.and_then(SeccompRule::new).map_err(|e| e.to_string())
}

fn is(index: u8, value: u64) -> Condition {
    SeccompCondition::new(index, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, value)
}

/// The second argument of a call that makes sockets, without its flags.
fn kind_is(kind: u64) -> Condition {
    SeccompCondition::new(1, SeccompCmpArgLen::Dword, SeccompCmpOp::MaskedEq(0xf), kind)
}

fn argument(index: u8, is: SeccompCmpOp, value: u64) -> Result<SeccompRule, String> {
    // The kernel itself looks at no more than 32 bits of these.
    let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, is, value);
    condition.and_then(|c| SeccompRule::new(vec![c])).map_err(|e| e.to_string())
}
