//! A core module given as a job, and the component that the host makes of it.

pub fn run(data: &[u8]) {
    match ingle_guests::componentize(data) {
        Ok(component) => {
            assert!(component.starts_with(b"\0asm"), "it is WebAssembly");
            // What is made is a component: it is left as it is.
            assert!(ingle_guests::componentize(&component).is_ok_and(|again| again == component));
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}
