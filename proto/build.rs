//! Compiles the contracts without a system `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = protox::compile(["ingle/v1/task.proto"], ["."])?;
    prost_build::Config::new().compile_fds(files)?;
    println!("cargo:rerun-if-changed=ingle");
    Ok(())
}
