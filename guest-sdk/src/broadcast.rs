//! Values that tasks share.

use std::fmt;
use std::ops::Deref;
use std::rc::Rc;

/// A value that tasks read; made by [`Context::broadcast`](crate::Context::broadcast). A cheap handle: clones are the same value.
///
/// It derefs to the value. The value is freed when the last handle is dropped, closures' own included.
pub struct Broadcast<T: ?Sized>(Rc<T>);

impl<T> Broadcast<T> {
    pub(crate) fn new(value: T) -> Broadcast<T> {
        Broadcast(Rc::new(value))
    }
}

impl<T: ?Sized> Broadcast<T> {
    /// The value. Nothing is copied.
    ///
    /// ```
    /// # use ingle::prelude::*;
    /// # let ctx = Context::local();
    /// let names = ctx.broadcast(vec!["zero", "one"]);
    /// assert_eq!(names.value(), &["zero", "one"]);
    /// assert_eq!(names[1], "one");
    /// # Ok::<(), Error>(())
    /// ```
    pub fn value(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized> Clone for Broadcast<T> {
    fn clone(&self) -> Self {
        Broadcast(Rc::clone(&self.0))
    }
}

impl<T: ?Sized> Deref for Broadcast<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

impl<T: ?Sized + fmt::Debug> fmt::Debug for Broadcast<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Broadcast").field(&&*self.0).finish()
    }
}
