//! The reference backend as a program.

use std::process::ExitCode;

fn main() -> ExitCode {
    kingsguard_server::program::main()
}
