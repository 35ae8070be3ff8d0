//! The node that a command is about, by the address of its admin listener.

use clap::Args;
use secrecy::SecretString;

use super::Failure;
use crate::control::admin::client::{Client, Place};

/// Where the node is.
#[derive(Debug, Args)]
pub struct Node {
    /// The admin listener: http://HOST:PORT or unix:/PATH
    #[arg(long, value_name = "URL", env = "RINGWAY_ADMIN", default_value = "http://127.0.0.1:9901")]
    admin: String,
    /// Its token; better in the environment, where not every process of the machine sees it
    #[arg(long, value_name = "TOKEN", env = "RINGWAY_ADMIN_TOKEN", hide_env_values = true)]
    token: Option<SecretString>,
}

impl Node {
    /// Errors: what is written is no address, or no token.
    pub fn client(&self) -> Result<Client, Failure> {
        let client = Place::parse(&self.admin).and_then(|place| Client::new(place, self.token.as_ref()));
        client.map_err(|error| Failure::other(error.to_string()))
    }

    /// Sends a POST with a body of JSON, and returns the body of the answer. Errors: the node cannot be reached or refuses;
    /// its reason.
    pub fn post(&self, path: &str, body: String) -> Result<String, Failure> {
        self.client()?.post(path, body).map_err(|error| Failure::other(error.to_string()))
    }

    /// As `post`, of what may take minutes.
    pub fn post_patiently(&self, path: &str) -> Result<String, Failure> {
        self.client()?.patient().post(path, String::new()).map_err(|error| Failure::other(error.to_string()))
    }
}
