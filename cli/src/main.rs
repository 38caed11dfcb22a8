//! The `stead` binary: everything is in the library, so that tests can be the same program.

use std::process::ExitCode;

fn main() -> ExitCode {
    stead::main()
}
