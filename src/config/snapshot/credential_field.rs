//! In which header field a credential is sent.

use strum::{EnumString, IntoStaticStr, VariantNames};

/// The header field of a credential; its word is the field's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, EnumString, IntoStaticStr, VariantNames)]
#[strum(serialize_all = "kebab-case")]
pub enum CredentialField {
    /// `Authorization: Bearer ...`
    Authorization,
    /// `x-api-key: ...`
    XApiKey,
    /// `api-key: ...`
    ApiKey,
}

impl CredentialField {
    /// In lower case.
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// What stands in front of the credential.
    pub fn prefix(self) -> &'static str {
        match self {
            CredentialField::Authorization => "Bearer ",
            CredentialField::XApiKey | CredentialField::ApiKey => "",
        }
    }
}
