//! What an attack is, and how it must end.

/// Who attacks.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// One task beside another, which must not notice.
    Task,
    /// One task whose application bounds all of its tasks, or loses their executor: nobody else is there.
    Alone,
    /// The driver.
    Driver,
}

impl By {
    pub fn name(self) -> &'static str {
        match self {
            By::Task => "task",
            By::Alone => "task-alone",
            By::Driver => "driver",
        }
    }
}

/// What it comes to, besides the words of each way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It is refused, or its task fails; the application's other tasks run on, on the executor that they had.
    GoesOn,
    /// As above, but another executor takes the place of the one whose task would not stop.
    Replaced,
    /// It ends the driver that did it.
    DriverEnds,
    /// It leaves its own driver without memory, ids or names to go on with.
    Spent,
}

impl End {
    pub fn words(self) -> &'static str {
        match self {
            End::GoesOn => "the application's other tasks go on",
            End::Replaced => "another executor takes the place of its own",
            End::DriverEnds => "the driver that did it ends",
            End::Spent => "the driver that did it has nothing left",
        }
    }
}

pub struct Attack {
    /// The name that `examples/hostile` knows it by.
    pub name: &'static str,
    pub by: By,
    /// What it does, for the book.
    pub what: &'static str,
    /// What stops it, for the book.
    pub wall: &'static str,
    /// The ways that it is tried, and words of what becomes of each; ` | ` is between those of which one comes.
    pub ways: &'static [(&'static str, &'static str)],
    pub end: End,
    pub flags: &'static [&'static str],
}

/// A list that is written as a table.
macro_rules! attacks {
    ($($name:literal $by:ident: $what:literal, $wall:literal, [$($way:literal => $words:literal),* $(,)?]
        $(, $end:ident)? $(, flags $($flag:literal)+)?;)*) => {
        pub const ATTACKS: &[crate::attack::Attack] = &[$(crate::attack::Attack {
            name: $name,
            by: crate::attack::By::$by,
            what: $what,
            wall: $wall,
            ways: &[$(($way, $words)),*],
            end: attacks!(@end $($end)?),
            flags: &[$($($flag),+)?],
        }),*];
    };
    (@end) => { crate::attack::End::GoesOn };
    (@end $end:ident) => { crate::attack::End::$end };
}
pub(crate) use attacks;
