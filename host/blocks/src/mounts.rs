//! Where else a path is reached on this host: what is mounted a second time elsewhere has other paths.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

/// File systems of the kernel's own, wherever they are mounted.
const OWN: [&[u8]; 20] = [
    b"proc",
    b"sysfs",
    b"devtmpfs",
    b"devpts",
    b"debugfs",
    b"tracefs",
    b"securityfs",
    b"configfs",
    b"bpf",
    b"cgroup",
    b"cgroup2",
    b"efivarfs",
    b"selinuxfs",
    b"rpc_pipefs",
    b"nfsd",
    b"resctrl",
    b"fusectl",
    b"pstore",
    b"binfmt_misc",
    b"nsfs",
];

/// A line of `/proc/self/mountinfo`.
struct Mount<'a> {
    device: &'a [u8],
    /// What of the device is mounted.
    root: PathBuf,
    /// Where.
    at: PathBuf,
    kind: &'a [u8],
}

impl<'a> Mount<'a> {
    fn read(line: &'a [u8]) -> Option<Self> {
        let mut words = line.split(|byte| *byte == b' ');
        let mut word = || words.next();
        let (_id, _parent, device, root, at) = (word()?, word()?, word()?, word()?, word()?);
        // Behind some that are optional.
        words.find(|word| *word == b"-")?;
        Some(Self { device, root: unescaped(root), at: unescaped(at), kind: words.next()? })
    }
}

/// Spaces and the like are written as `\040`.
fn unescaped(text: &[u8]) -> PathBuf {
    let octal = |digits: &[u8]| {
        let digits = std::str::from_utf8(digits).ok()?;
        u8::from_str_radix(digits, 8).ok()
    };
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text);
    while let [first, after @ ..] = rest {
        let byte = if *first == b'\\' { after.get(..3).and_then(octal) } else { None };
        rest = if byte.is_some() { after.get(3..).unwrap_or_default() } else { after };
        bytes.push(byte.unwrap_or(*first));
    }
    PathBuf::from(OsString::from_vec(bytes))
}

/// Where else these paths are reached, as `/proc/self/mountinfo` has it, and all mounts of what is the kernel's own. A mount that is hidden by another one
/// counts too.
pub fn aliases(mountinfo: &[u8], paths: &[PathBuf]) -> Vec<PathBuf> {
    let lines = mountinfo.split(|byte| *byte == b'\n');
    let mounts: Vec<_> = lines.filter_map(Mount::read).collect();
    let mut found: Vec<PathBuf> =
        mounts.iter().filter(|m| OWN.contains(&m.kind)).map(|m| m.at.clone()).collect();
    for path in paths {
        let homes = mounts.iter().filter_map(|home| {
            // Which of its device's files that may be.
            let below = path.strip_prefix(&home.at).ok()?;
            Some((home.device, joined(&home.root, below)))
        });
        for (device, lies) in homes {
            let same = mounts.iter().filter(|mount| mount.device == device);
            found.extend(same.filter_map(|mount| match lies.strip_prefix(&mount.root) {
                Ok(below) => Some(joined(&mount.at, below)),
                // Some of what is in it.
                Err(_) => mount.root.starts_with(&lies).then(|| mount.at.clone()),
            }));
        }
    }
    found.sort();
    found.dedup();
    found.retain(|path| !paths.contains(path));
    // Grants are told in UTF-8: nobody names what isn't, but what is around it.
    found.iter_mut().for_each(|path| {
        let named = path.ancestors().find(|above| above.to_str().is_some());
        *path = named.unwrap_or(Path::new("/")).to_owned();
    });
    found
}

/// As `join`, but nothing is added for nothing: no slash at the end.
fn joined(path: &Path, below: &Path) -> PathBuf {
    if below.as_os_str().is_empty() { path.to_owned() } else { path.join(below) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw\n";

    fn of(more: &str, paths: &[&str]) -> Vec<String> {
        let text = format!("{ROOT}{more}");
        let paths: Vec<_> = paths.iter().map(PathBuf::from).collect();
        let found = aliases(text.as_bytes(), &paths);
        found.iter().map(|path| path.display().to_string()).collect()
    }

    #[test]
    fn what_is_bound_elsewhere_is_found_with_what_is_around_it_and_in_it() {
        // The folder, one around it, and one in it.
        assert_eq!(of("40 27 254:0 /w /data/x rw - ext4 /dev/vda rw", &["/w"]), ["/data/x"]);
        assert_eq!(of("40 27 254:0 /a /b rw - ext4 /dev/vda rw", &["/a/c/w"]), ["/b/c/w"]);
        assert_eq!(of("40 27 254:0 /w/apps/1 /b rw - ext4 /dev/vda rw", &["/w"]), ["/b"]);
        // Neighbours, and another device.
        assert!(of("40 27 254:0 /ww /b rw - ext4 /dev/vda rw", &["/w"]).is_empty());
        assert!(of("40 27 254:1 / /b rw - ext4 /dev/vdb rw", &["/w"]).is_empty());
        assert!(of("", &["/w"]).is_empty());
    }

    #[test]
    fn a_device_that_is_mounted_twice_is_found_and_what_is_stacked_counts_below_and_above() {
        let twice = "40 27 8:1 / /mnt/one rw master:7 propagate_from:2 - xfs /dev/sda1 rw\n\
                     41 27 8:1 /sub /mnt/two rw - xfs /dev/sda1 rw\n";
        assert_eq!(of(twice, &["/mnt/one/sub/w"]), ["/mnt/two/w"]);
        assert_eq!(of(twice, &["/mnt/two/w"]), ["/mnt/one/sub/w"]);
        // What is mounted over it, or hidden by that, may be either.
        let stacked = "40 27 8:1 / /w rw - xfs /dev/sda1 rw\n41 40 8:2 / /w rw - xfs /dev/sdb1 rw\n\
                       42 27 8:1 / /x rw - xfs /dev/sda1 rw\n43 27 8:2 /in /y rw - xfs /dev/sdb1 rw\n\
                       44 27 254:0 /w /z rw - ext4 /dev/vda rw\n";
        assert_eq!(of(stacked, &["/w"]), ["/x", "/y", "/z"]);
    }

    #[test]
    fn names_are_read_as_they_are_written_and_lines_that_make_no_sense_are_left_out() {
        assert_eq!(
            of("40 27 254:0 /my\\040work /a\\134b\\011c rw - ext4 /dev/vda rw", &["/my work"]),
            ["/a\\b\tc"]
        );
        assert_eq!(unescaped(b"\\04"), Path::new("\\04"));
        assert_eq!(unescaped(b"a\\999\\"), Path::new("a\\999\\"));
        for nonsense in ["", "40", "40 27 254:0 /w", "40 27 254:0 /w /b rw", "40 27 254:0 /w /b -"]
        {
            assert!(of(nonsense, &["/w"]).is_empty(), "{nonsense}");
        }
        // What can't be named is closed with what it is in.
        assert_eq!(of("40 27 254:0 /w /a/\\377/b rw - ext4 /dev/vda rw", &["/w"]), ["/a"]);
    }

    #[test]
    fn what_is_the_kernels_own_is_closed_wherever_it_is() {
        let more = "22 27 0:21 / /proc rw - proc proc rw\n23 27 0:22 / /srv/root/sys rw - sysfs sysfs rw\n\
                    24 27 0:23 / /srv/data rw - tmpfs tmpfs rw\n25 27 0:24 / /x rw - cgroup2 none rw\n";
        assert_eq!(of(more, &["/proc"]), ["/srv/root/sys", "/x"]);
    }
}
