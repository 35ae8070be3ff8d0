//! Measuring tools of Ringway: a mock backend, an open-loop load generator, a corpus and the machine's floor. A
//! separate program: it must never be part of the gateway it measures.

mod backend;
mod clock;
mod corpus;
mod floor;
mod message;
mod report;
mod rng;
mod run;

use clap::{Parser, Subcommand};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const EXAMPLES: &str = "\
Examples:
  loadtest backend --listen 127.0.0.1:9000
  loadtest run --url http://127.0.0.1:8080 --scenario hit --rate 5000 --seconds 10 --key sk-test
  loadtest run --url http://127.0.0.1:8080 --scenario stream --rate 100 --model mock-n100-i10
  loadtest scenario spike --short --url http://127.0.0.1:8080 --key sk-test --report reports
  loadtest corpus --seed 7 > corpus.jsonl
  loadtest floor --listen 127.0.0.1:9100 --cpu 0";

/// Measuring tools of Ringway
#[derive(Parser)]
#[command(version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Backend(backend::Arguments),
    Run(run::Arguments),
    Scenario(run::scenario::Arguments),
    Corpus(corpus::Arguments),
    Floor(floor::Arguments),
}

fn main() -> std::process::ExitCode {
    let outcome = match Arguments::parse().command {
        Command::Backend(arguments) => backend::run(&arguments),
        Command::Run(arguments) => run::run(&arguments),
        Command::Scenario(arguments) => run::scenario::run(&arguments),
        Command::Corpus(arguments) => corpus::run(&arguments),
        Command::Floor(arguments) => floor::run(&arguments),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("loadtest: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}
