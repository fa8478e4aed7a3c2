//! Floods of what the host keeps for a driver.

use crate::attack::attacks;

attacks! {
    "stage-flood" Driver: "defines stages without end",
        "100,000 stages, and the driver's memory budget",
        ["it" => "100000 stages, and no more are allowed"], Spent;
    "huge-stage" Driver: "stages of too many tasks, partitions, inputs, or with a name of 16 MiB, or too much to read",
        "bounds of each, told in the refusal",
        ["tasks" => "at most 4000000 are allowed", "partitions" => "can't into more than 1000000",
         "inputs" => "can't have more than 65536", "name" => "at most 1024 are allowed",
         "payload" => "at most 48.0 MiB travel"];
    "job-flood" Driver: "runs jobs without end, and takes no result",
        "1000 jobs at a time, 4096 with results that nobody took (each has an image as well, of the memory budgets)",
        ["it" => "jobs are running | jobs have results that nobody took"], GoesOn, flags "--executor-memory=3g" "--driver-memory=3g";
    "output-flood" Driver: "opens output folders without end",
        "256 open outputs",
        ["it" => "256 outputs are open"];
    "cache-flood" Driver: "names cached datasets without end",
        "100,000 names",
        ["it" => "more cached datasets than are allowed"], DriverEnds;
    "image-flood" Driver: "has the host keep images of its memory without end",
        "256 images, and the memory budgets",
        ["it" => "more images held at once than are allowed"], DriverEnds;
    "source-flood" Driver: "opens sources without end",
        "the driver's memory budget",
        ["it" => "raise --driver-memory"], Spent, flags "--driver-memory=64m";
    "split-flood" Driver: "wants a file in 4 thousand million splits",
        "1,000,000 splits",
        ["it" => "a source may have 1000000 splits, not more"];
}

#[test]
fn floods_of_a_driver_are_bounded() {
    crate::hold(ATTACKS);
}
