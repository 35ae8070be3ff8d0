//! The `ringway` program: the table of contents of its commands.

#[cfg(not(sim))]
#[global_allocator]
static ALLOCATOR: ringway::net::SamplingAllocator = ringway::net::SamplingAllocator;

#[cfg(not(sim))]
fn main() -> std::process::ExitCode {
    use clap::Parser;
    use ringway::commands::{
        self, Command, Line, check, completions, config, demo, doctor, import, install, key, man, purge, serve,
        snapshot, template, top, tune,
    };

    commands::exit(match Line::parse().command {
        Command::Demo(arguments) => demo::run(&arguments),
        Command::Serve(arguments) => serve::run(&arguments),
        Command::Top(arguments) => top::run(&arguments),
        Command::Check(arguments) => check::run(&arguments),
        Command::Config(arguments) => config::run(&arguments),
        Command::Template(arguments) => template::run(&arguments),
        Command::Key(arguments) => key::run(&arguments),
        Command::Purge(arguments) => purge::run(&arguments),
        Command::Snapshot(arguments) => snapshot::run(&arguments),
        Command::Import(arguments) => import::run(&arguments),
        Command::Doctor(arguments) => doctor::run(&arguments),
        Command::Tune(arguments) => tune::run(&arguments),
        Command::Install(arguments) => install::install(&arguments),
        Command::Uninstall(arguments) => install::uninstall(&arguments),
        Command::Completions(arguments) => completions::run(&arguments),
        Command::Man(arguments) => man::run(&arguments),
    })
}

/// The simulated world has no program of its own: its tests are. Where a build of it was left in place, that is told.
#[cfg(sim)]
fn main() -> std::process::ExitCode {
    eprintln!("ringway: this program was built for the simulator and does nothing; build it again");
    std::process::ExitCode::FAILURE
}
