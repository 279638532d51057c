//! What is said to a libSQL server: Hrana 3 over HTTP with JSON,
//! <https://github.com/tursodatabase/libsql/blob/main/docs/HRANA_3_SPEC.md>.

use base64::Engine;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD_NO_PAD};
use libsql::Value;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Several requests in one, on a stream: a connection to the database that the server keeps, named by a baton.
#[derive(Serialize)]
pub(crate) struct Pipeline<'a> {
    pub(crate) baton: Option<&'a str>,
    pub(crate) requests: &'a [Request<'a>],
}

#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Request<'a> {
    Batch { batch: Batch<'a> },
    Sequence { sql: &'a str },
    Close,
}

#[derive(Serialize)]
pub(crate) struct Batch<'a> {
    pub(crate) steps: &'a [Step],
}

/// A batch whose rows come one by one.
#[derive(Serialize)]
pub(crate) struct Cursor<'a> {
    pub(crate) baton: Option<&'a str>,
    pub(crate) batch: Batch<'a>,
}

/// A statement of a batch, and when it is run.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Step {
    pub(crate) stmt: Statement,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) condition: Option<Condition>,
}

#[derive(Clone, Debug, Serialize)]
pub(crate) struct Statement {
    pub(crate) sql: &'static str,
    pub(crate) args: Vec<Argument>,
    pub(crate) want_rows: bool,
}

/// Steps are named by their place in the batch.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Condition {
    Ok { step: usize },
    Not { cond: Box<Self> },
    And { conds: Vec<Self> },
    Or { conds: Vec<Self> },
}

impl Condition {
    /// That a step failed or was not run. What the protocol calls an error is not the same: servers differ in whether a step that was
    /// not run is one.
    pub(crate) fn not_ok(step: usize) -> Self {
        Self::Not { cond: Box::new(Self::Ok { step }) }
    }
}

/// A value on its way to the server.
#[derive(Clone, Debug)]
pub(crate) struct Argument(pub(crate) Value);

impl Serialize for Argument {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        match &self.0 {
            Value::Null => map.serialize_entry("type", "null")?,
            Value::Integer(value) => {
                map.serialize_entry("type", "integer")?;
                map.serialize_entry("value", &value.to_string())?;
            }
            Value::Real(value) => {
                map.serialize_entry("type", "float")?;
                map.serialize_entry("value", value)?;
            }
            Value::Text(value) => {
                map.serialize_entry("type", "text")?;
                map.serialize_entry("value", value)?;
            }
            Value::Blob(value) => {
                map.serialize_entry("type", "blob")?;
                map.serialize_entry("base64", &STANDARD_NO_PAD.encode(value))?;
            }
        }
        map.end()
    }
}

/// A value from the server.
#[derive(Clone, Debug)]
pub(crate) struct Answered(pub(crate) Value);

impl<'de> Deserialize<'de> for Answered {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(tag = "type", rename_all = "snake_case")]
        enum Wire {
            Null,
            Integer { value: String },
            Float { value: f64 },
            Text { value: String },
            Blob { base64: String },
        }
        // Servers may pad, or not.
        const ANY_PADDING: GeneralPurpose = GeneralPurpose::new(
            &base64::alphabet::STANDARD,
            GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
        );
        Ok(Self(match Wire::deserialize(deserializer)? {
            Wire::Null => Value::Null,
            Wire::Integer { value } => Value::Integer(value.parse().map_err(de::Error::custom)?),
            Wire::Float { value } => Value::Real(value),
            Wire::Text { value } => Value::Text(value),
            Wire::Blob { base64 } => Value::Blob(ANY_PADDING.decode(base64).map_err(de::Error::custom)?),
        }))
    }
}

/// What a server says of a failure.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct Failure {
    pub(crate) message: String,
    #[serde(default)]
    pub(crate) code: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct PipelineAnswer {
    pub(crate) baton: Option<String>,
    pub(crate) results: Vec<StreamResult>,
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum StreamResult {
    Ok { response: Response },
    Error { error: Failure },
}

#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Response {
    Batch {
        result: BatchResult,
    },
    #[serde(other)]
    Other,
}

/// What came of each step: a result, an error, or neither if it was not run.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct BatchResult {
    pub(crate) step_results: Vec<Option<StepResult>>,
    pub(crate) step_errors: Vec<Option<Failure>>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct StepResult {
    #[serde(default)]
    pub(crate) cols: Vec<Column>,
    pub(crate) rows: Vec<Vec<Answered>>,
    #[serde(default)]
    pub(crate) affected_row_count: u64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Column {
    pub(crate) name: Option<String>,
}

/// The first line of the answer to a cursor.
#[derive(Debug, Deserialize)]
pub(crate) struct CursorAnswer {
    pub(crate) baton: Option<String>,
}

/// Each line after it.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(crate) enum Entry {
    StepBegin {
        step: usize,
        cols: Vec<Column>,
    },
    Row {
        row: Vec<Answered>,
    },
    StepEnd {
        #[serde(default)]
        affected_row_count: u64,
    },
    StepError {
        step: usize,
        error: Failure,
    },
    Error {
        error: serde_json::Value,
    },
    #[serde(other)]
    Other,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_written_as_the_protocol_says() {
        let values = [Value::Null, Value::Integer(i64::MIN), Value::Text("\0\"é".to_owned()), Value::Blob(vec![1, 2])];
        let written: Vec<String> =
            values.iter().map(|value| serde_json::to_string(&Argument(value.clone())).unwrap()).collect();
        assert_eq!(
            written,
            [
                r#"{"type":"null"}"#,
                r#"{"type":"integer","value":"-9223372036854775808"}"#,
                "{\"type\":\"text\",\"value\":\"\\u0000\\\"é\"}",
                r#"{"type":"blob","base64":"AQI"}"#,
            ]
        );
        for (value, written) in values.iter().zip(&written) {
            assert_eq!(serde_json::from_str::<Answered>(written).unwrap().0, *value);
        }
        assert_eq!(
            serde_json::from_str::<Answered>(r#"{"type":"blob","base64":"AQI="}"#).unwrap().0,
            Value::Blob(vec![1, 2])
        );
        for wrong in
            [r#"{"type":"integer","value":"x"}"#, r#"{"type":"blob","base64":"?"}"#, "7", r#"{"type":"point"}"#]
        {
            assert!(serde_json::from_str::<Answered>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn answers_of_a_server_are_understood() {
        let answer = r#"{"baton":"b","base_url":null,"results":[
            {"type":"ok","response":{"type":"batch","result":{
                "step_results":[{"cols":[{"name":"version","decltype":null}],"rows":[[{"type":"integer","value":"7"}]],
                                 "affected_row_count":0,"last_insert_rowid":null,"query_duration_ms":0.1},null],
                "step_errors":[null,{"message":"SQLite error: bad","code":"SQLITE_UNKNOWN"}],
                "replication_index":"18"}}},
            {"type":"error","error":{"message":"Transaction timed out","code":"TRANSACTION_TIMEOUT"}},
            {"type":"ok","response":{"type":"close"}}]}"#;
        let answer: PipelineAnswer = serde_json::from_str(answer).unwrap();
        let [StreamResult::Ok { response: Response::Batch { result } }, StreamResult::Error { error }, _] =
            &*answer.results
        else {
            panic!("{answer:?}")
        };
        assert_eq!(error.code, "TRANSACTION_TIMEOUT");
        assert_eq!(result.step_results[0].as_ref().unwrap().rows[0][0].0, Value::Integer(7));
        assert_eq!(result.step_errors[1].as_ref().unwrap().code, "SQLITE_UNKNOWN");
        for line in [
            r#"{"type":"step_end","affected_row_count":0,"last_insert_rowid":null}"#,
            r#"{"type":"replication_index","replication_index":6015}"#,
            r#"{"type":"step_error","step":1,"error":{"message":"m","code":"c"}}"#,
        ] {
            serde_json::from_str::<Entry>(line).unwrap();
        }
    }
}
