//! The names in a client's certificate that a tenant can be found by. Reads a certificate that was verified; owns nothing.

use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;

/// The names of a certificate, spelled as the configuration does, those that count first in front: its URIs, its DNS names, its
/// e-mail addresses, its common name if there is one alone.
pub fn names(certificate: &[u8]) -> Vec<String> {
    let Ok((_, certificate)) = parse_x509_certificate(certificate) else { return Vec::new() };
    let mut names: [Vec<String>; 4] = Default::default();
    let alternative = certificate.subject_alternative_name().ok().flatten();
    for name in alternative.iter().flat_map(|found| &found.value.general_names) {
        match name {
            GeneralName::URI(uri) => names[0].push(format!("URI:{uri}")),
            // RFC 4343: without regard to case.
            GeneralName::DNSName(name) => names[1].push(format!("DNS:{}", name.to_ascii_lowercase())),
            GeneralName::RFC822Name(address) => names[2].push(format!("email:{address}")),
            _ => {}
        }
    }
    let mut common = certificate.subject().iter_common_name();
    // Of several, nobody says which one is meant.
    if let (Some(Ok(name)), None) = (common.next().map(|name| name.as_str()), common.next()) {
        names[3].push(format!("CN={name}"));
    }
    names.concat()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    use super::names;

    fn certificate(common: &str, change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if !common.is_empty() {
            params.distinguished_name.push(DnType::CommonName, common);
        }
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn every_kind_of_name_is_found_in_its_order() {
        let all = certificate("Search Service", |params| {
            params.subject_alt_names = vec![
                SanType::Rfc822Name("Ops@example.org".try_into().unwrap()),
                SanType::DnsName("Search.Example".try_into().unwrap()),
                SanType::IpAddress([127, 0, 0, 1].into()),
                SanType::URI("spiffe://example/search".try_into().unwrap()),
            ];
        });
        let expected =
            ["URI:spiffe://example/search", "DNS:search.example", "email:Ops@example.org", "CN=Search Service"];
        assert_eq!(names(&all), expected);
    }

    #[test]
    fn what_is_no_name_or_no_certificate_names_nobody() {
        assert_eq!(names(&certificate("", |_| ())), Vec::<String>::new());
        assert_eq!(names(b"nothing"), Vec::<String>::new());
        assert_eq!(names(&[]), Vec::<String>::new());
        let whole = certificate("a", |_| ());
        for length in 0..whole.len() {
            assert_eq!(names(&whole[..length]), Vec::<String>::new(), "{length}");
        }
    }
}
