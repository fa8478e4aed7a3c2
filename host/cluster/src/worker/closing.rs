//! The end of what a process has, or had, a hand in: its socket with all that lies unread in it, and connections that it was given. Closing one may take as
//! long as the process wished (`SO_LINGER`), so it isn't done where others wait.

use std::ops::Deref;

/// Something that is dropped on a thread of its own.
pub struct Apart<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Apart<T> {
    pub fn new(thing: T) -> Self {
        Self(Some(thing))
    }
}

impl<T: Send + 'static> Deref for Apart<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match &self.0 {
            Some(thing) => thing,
            None => unreachable!("it is taken when this is dropped"),
        }
    }
}

impl<T: Send + 'static> Drop for Apart<T> {
    fn drop(&mut self) {
        let thing = self.0.take();
        // Not one of the runtime's: a process has as many as it is handed things at a time, and each may be kept for long. If there can't be
        // another, it is dropped here.
        drop(std::thread::Builder::new().name("closing".into()).spawn(move || drop(thing)));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    /// Waits at its end until it may go.
    struct Waits(mpsc::Receiver<()>, mpsc::Sender<()>);

    impl Drop for Waits {
        fn drop(&mut self) {
            let _ = self.0.recv();
            let _ = self.1.send(());
        }
    }

    #[test]
    fn nobody_waits_for_what_takes_long_to_close() {
        let ((go, may_go), (gone, is_gone)) = (mpsc::channel(), mpsc::channel());
        drop(Apart::new(Waits(may_go, gone)));
        assert!(is_gone.try_recv().is_err());
        go.send(()).unwrap();
        is_gone.recv().unwrap();
    }
}
