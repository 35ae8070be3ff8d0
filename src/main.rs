//! The `ringway` program: the table of contents of its commands.

use std::process::ExitCode;

use clap::Parser;
use ringway::commands::{self, Command, Line, check, config, demo, key, serve};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::exit(match Line::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Key(arguments) => key::run(&arguments),
    })
}
