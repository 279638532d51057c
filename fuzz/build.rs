//! Does nothing: cargo takes the build-dependencies only of a package that has a build script.

fn main() {}
