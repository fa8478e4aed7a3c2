//! Ways out of what was granted.

use crate::attack::attacks;

attacks! {
    "path-escape" Task: "opens, asks after, makes and removes `..`, absolute paths, /proc, and paths with NUL or of 200 KB",
        "cap-std: paths are resolved beneath the granted folder's descriptor",
        ["it" => "all 80 refused"];
    "path-escape" Driver: "the same in the driver",
        "cap-std",
        ["it" => "all 80 refused"];
    "link-escape" Task: "makes links out of its folder, and follows them; links what isn't granted",
        "cap-std: a link that leads out is not followed",
        ["it" => "all 29 refused"];
    "rename-escape" Task: "moves files out of its folder, in, and between grants of other rights",
        "cap-std, and rights of the grant",
        ["it" => "all 6 refused"];
    "read-only-escape" Task: "writes, cuts, renames, links, touches and removes what may only be read",
        "rights of the grant",
        ["it" => "all 16 refused"];
    "race-escape" Driver: "swaps a folder for a link out of it while another task reads through it what lies in both",
        "cap-std: each step is opened beneath the one before",
        ["20000" => "never got out"];
    "late-source" Driver: "has the host list a file, and makes its folder a link out of the grant before that is read",
        "grants, by descriptor, again where a task reads",
        ["it" => "symbolic link"];
    "late-output" Driver: "makes the folder above an output a link out of the grant while that is written",
        "grants, by descriptor",
        ["by-a-task" => "written where it was begun", "by-the-driver" => "written where it was begun"];
    "source-escape" Driver: "has the host read what isn't granted: paths, links, globs, URLs",
        "grants, by descriptor",
        ["it" => "all 17 refused"];
    "output-escape" Driver: "has the host write where it isn't granted",
        "grants, by descriptor",
        ["it" => "all 11 refused"];
    "sparse-file" Task: "makes a file of an exabyte, and writes to the end of what may be",
        "the file system's bounds, handed on as errors",
        ["it" => "all 1 refused"];
    "sparse-source" Driver: "has the host read a file of a terabyte in one line, of which nothing is stored",
        "128 MiB for each line",
        ["it" => "longer than 128.0 MiB"];
}

#[test]
fn nothing_but_what_is_granted_is_reached() {
    crate::hold(ATTACKS);
}
