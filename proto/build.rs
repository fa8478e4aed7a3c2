//! Compiles the contracts without a system `protoc`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["task", "driver", "worker", "master"].map(|name| format!("ingle/v1/{name}.proto"));
    let files = protox::compile(files, ["."])?;
    // Bulk data isn't copied out of the message that brought it, or for each peer that is sent the same.
    let bulk = ["Chunk", "ComponentChunk", "BlockPart", "ResultPart", "LogPart", "ExecutorCommand"];
    let bulk = bulk.into_iter().chain(["StageDescription", "ExecutorReports"]);
    let builder = bulk
        .fold(tonic_prost_build::configure(), |b, name| b.bytes(format!(".ingle.v1.{name}")))
        // Written by hand: they have keys.
        .skip_debug([".ingle.v1.S3", ".ingle.v1.Secrets", ".ingle.v1.SubmitDriverRequest"]);
    builder.compile_fds(files)?;
    println!("cargo:rerun-if-changed=ingle");
    Ok(())
}
