//! What differs between the servers: routes, requests and answers.

use serde::Deserialize;
use serde_json::Value;

use super::answer::Unreadable;

/// The language of a server. Each is a constant in a module of its own.
#[derive(Debug)]
pub(super) struct Dialect {
    /// Who provides the vectors, unless the model says who.
    pub(super) provider: &'static str,
    /// The path that an address without one gets.
    pub(super) version: &'static str,
    /// Where texts are sent, after the address.
    pub(super) route: &'static str,
    /// Cheap requests that succeed if it is well; the first that it knows counts.
    pub(super) probes: &'static [Probe],
    /// What to tell if it does not know the route.
    pub(super) no_route: &'static str,
    pub(super) request: fn(&Asked<'_>) -> Value,
    /// The vectors in an answer, in the order of the texts.
    pub(super) read: fn(&[u8]) -> Vectors,
}

/// What an answer holds.
pub(super) type Vectors = Result<Vec<Vec<f32>>, Unreadable>;

/// A path to ask for the health of a server.
#[derive(Debug)]
pub(super) enum Probe {
    /// After the address.
    Below(&'static str),
    /// After the address without the version.
    Beside(&'static str),
}

/// What is asked of a server.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) model: &'a str,
    pub(super) texts: &'a [String],
    /// To which length the vectors are to be cut, if they are.
    pub(super) dimensions: Option<usize>,
}

/// The addresses of a server.
#[derive(Debug)]
pub(super) struct Routes {
    pub(super) embed: String,
    pub(super) probes: Vec<String>,
}

impl Dialect {
    /// The addresses below a base, which has no slash at its end.
    pub(super) fn routes(&self, base: &str) -> Routes {
        let has_path = base.split_once("://").is_some_and(|(_, rest)| rest.contains('/'));
        let base = if has_path { base.to_owned() } else { format!("{base}{}", self.version) };
        let root = base.strip_suffix(self.version).unwrap_or(&base);
        let probe = |probe: &Probe| match probe {
            Probe::Below(path) => format!("{base}{path}"),
            Probe::Beside(path) => format!("{root}{path}"),
        };
        Routes { embed: format!("{base}{}", self.route), probes: self.probes.iter().map(probe).collect() }
    }
}

/// A number of a vector. Some servers write `null` for one that is none.
#[derive(Deserialize)]
#[serde(from = "Option<f64>")]
pub(super) struct Component(f32);

impl From<Option<f64>> for Component {
    #[expect(clippy::cast_possible_truncation, reason = "what is no finite f32 is found in the check of the answer")]
    fn from(number: Option<f64>) -> Self {
        Self(number.map_or(f32::NAN, |number| number as f32))
    }
}

/// A vector as it is.
pub(super) fn numbers(components: Vec<Component>) -> Vec<f32> {
    components.into_iter().map(|component| component.0).collect()
}
