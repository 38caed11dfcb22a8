//! `stead` itself, built together with the tests that start it.

use std::process::ExitCode;

fn main() -> ExitCode {
    stead::main()
}
