//! Which function is called: what the config says, and the path, region and ARN that follow from it.
//!
//! Pure. Never here: a request.

use std::str::FromStr;

/// A function by name or ARN, with or without a version or an alias.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Function {
    name: String,
    qualifier: Option<String>,
    place: Option<Place>,
}

/// Where something of AWS is, as an ARN says it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) partition: String,
    pub(super) region: String,
    pub(super) account: String,
}

/// A text that names no function.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "`{0}` is no Lambda function: NAME, NAME:ALIAS, or arn:aws:lambda:REGION:ACCOUNT:function:NAME with or without :ALIAS"
)]
pub struct NoFunction(String);

impl FromStr for Function {
    type Err = NoFunction;

    /// Reads `FunctionName` of the Invoke API: a name, or an ARN, each with or without a version or an alias.
    fn from_str(text: &str) -> Result<Self, NoFunction> {
        let wrong = || NoFunction(text.to_owned());
        let (place, name) = match text.strip_prefix("arn:") {
            None => (None, text),
            Some(_) => {
                let (place, resource) = Place::of("lambda", text).ok_or_else(wrong)?;
                (Some(place), resource.strip_prefix("function:").ok_or_else(wrong)?)
            }
        };
        let (name, qualifier) = match name.split_once(':') {
            Some((name, qualifier)) => (name, Some(qualifier.to_owned())),
            None => (name, None),
        };
        let word = |text: &str, bytes_max| {
            (1..=bytes_max).contains(&text.len())
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        let qualifies = qualifier.as_deref().is_none_or(|qualifier| qualifier == LATEST || word(qualifier, 128));
        // CreateFunction allows 64 characters, Invoke 140.
        if !word(name, 140) || !qualifies {
            return Err(wrong());
        }
        Ok(Self { name: name.to_owned(), qualifier, place })
    }
}

const LATEST: &str = "$LATEST";

impl Place {
    /// The place and the resource of an ARN of a service.
    pub(super) fn of<'a>(service: &str, arn: &'a str) -> Option<(Self, &'a str)> {
        let mut parts = arn.splitn(6, ':');
        let mut next = || parts.next().filter(|part| !part.is_empty());
        let (head, partition, found, region, account) = (next()?, next()?, next()?, next()?, next()?);
        let resource = next()?;
        let place = Self { partition: partition.to_owned(), region: region.to_owned(), account: account.to_owned() };
        (head == "arn" && found == service).then_some((place, resource))
    }
}

impl Function {
    /// The region that its ARN names.
    pub fn region(&self) -> Option<&str> {
        self.place.as_ref().map(|place| place.region.as_str())
    }

    /// Its ARN with its version or alias, as an error record names it; without an ARN in the config it is beside `near`.
    pub(super) fn arn(&self, near: &Place) -> String {
        let qualifier = self.qualifier.as_deref().unwrap_or(LATEST);
        format!("{}:{qualifier}", self.plain_arn(self.place.as_ref().unwrap_or(near)))
    }

    fn plain_arn(&self, place: &Place) -> String {
        let Place { partition, region, account } = place;
        format!("arn:{partition}:lambda:{region}:{account}:function:{}", self.name)
    }

    /// Path and query of its invocations (Invoke, API version 2015-03-31).
    pub(super) fn path(&self) -> String {
        let name = self.place.as_ref().map_or_else(|| self.name.clone(), |place| self.plain_arn(place));
        let mut path = format!("/2015-03-31/functions/{}/invocations", name.replace(':', "%3A"));
        if let Some(qualifier) = &self.qualifier {
            path.push_str("?Qualifier=");
            path.push_str(&qualifier.replace('$', "%24"));
        }
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:lambda:us-west-2:222233334444:function:enrich";

    fn near() -> Place {
        Place::of("kinesis", "arn:aws:kinesis:eu-west-1:111122223333:stream/orders").expect("an ARN").0
    }

    #[test]
    fn a_function_is_named_in_each_way_of_the_invoke_api() {
        let beside = "arn:aws:lambda:eu-west-1:111122223333:function:enrich";
        for (text, path, arn) in [
            ("enrich", "enrich/invocations".to_owned(), format!("{beside}:$LATEST")),
            ("enrich:live", "enrich/invocations?Qualifier=live".to_owned(), format!("{beside}:live")),
            (ARN, format!("{}/invocations", ARN.replace(':', "%3A")), format!("{ARN}:$LATEST")),
            (
                &format!("{ARN}:$LATEST"),
                format!("{}/invocations?Qualifier=%24LATEST", ARN.replace(':', "%3A")),
                format!("{ARN}:$LATEST"),
            ),
            (&format!("{ARN}:7"), format!("{}/invocations?Qualifier=7", ARN.replace(':', "%3A")), format!("{ARN}:7")),
        ] {
            let function: Function = text.parse().expect(text);
            assert_eq!(function.path(), format!("/2015-03-31/functions/{path}"));
            assert_eq!(function.arn(&near()), arn);
        }
        assert_eq!(ARN.parse::<Function>().expect("an ARN").region(), Some("us-west-2"));
    }

    #[test]
    fn what_names_no_function_is_refused() {
        let long = "x".repeat(141);
        for text in [
            "",
            "a b",
            "a/b",
            "enrich:",
            "enrich:a:b",
            "enrich:$FIRST",
            "arn:aws:lambda:us-west-2:222233334444:layer:x",
            "arn:aws:kinesis:us-west-2:222233334444:function:x",
            "arn:aws:lambda::222233334444:function:x",
            "arn:aws:lambda:us-west-2:222233334444:function:",
            "arn:",
            &long,
        ] {
            assert!(text.parse::<Function>().is_err(), "{text}");
        }
    }
}
