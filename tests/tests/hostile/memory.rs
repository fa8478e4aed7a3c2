//! Memory: more than was granted, deeper than there is stack, more of the driver's than executors have.

use crate::attack::{Attack, By, End, attacks};
use crate::field::{Field, place};

attacks! {
    "memory-bomb" Task: "takes memory without end, by its allocator and from the engine",
        "the executor's memory budget",
        ["heap" => "out of memory", "pages" => "out of memory"];
    "stack-bomb" Task: "recurses without end",
        "the guest's stack, of 1 MiB",
        ["it" => "a recursion that goes too deep"];
    "memory-bomb" Driver: "takes memory without end in the driver",
        "the driver's memory budget",
        ["heap" => "raise --driver-memory"], DriverEnds;
    "stack-bomb" Driver: "recurses without end in the driver",
        "the guest's stack, of 1 MiB",
        ["it" => "a recursion that goes too deep"], DriverEnds;
    "captured-memory" Driver: "has executors keep more of the driver's memory than they have",
        "the executors' memory budget",
        ["400" => "raise --executor-memory"], Spent;
    "dirty-memory" Driver: "tasks that write to all of a large captured table",
        "a sampler that charges the pages a task made its own",
        ["90" => "out of memory: the task changed"];
    "silent-memory" Driver: "tasks that write to all of it, and never call their host again",
        "the same sampler, then wasmtime's epochs, or the executor is replaced",
        ["90" => "out of memory: the task changed"],
        GoesOn, flags "--conf=ingle.task.interrupt=epoch";
}

/// As it is without epochs, where the executor is what goes. In local mode its memory stays until the job ends.
const SILENT: Attack = Attack {
    name: "silent-memory",
    by: By::Driver,
    what: "",
    wall: "",
    ways: &[("90", "out of memory: the task changed")],
    end: End::Replaced,
    flags: &[],
};

#[test]
fn who_is_silent_and_has_too_much_goes_with_its_executor() {
    let place = place();
    let field = Field::new(&place);
    field.hold(&SILENT);
    field.end();
}

#[test]
fn memory_is_bounded() {
    crate::hold(ATTACKS);
}
