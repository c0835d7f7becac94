//! Rules in CEL, the language in which Kubernetes lets people say what objects must be like
//! (kubernetes.io/docs/reference/using-api/cel): of custom objects and of admission policies.
//!
//! In: the text of a rule and the names it may use with their types ([`Scope`]). Out: a [`Rule`],
//! read and checked once, or what is wrong with the text in Kubernetes' words. A rule runs on given
//! values and pays for each step ([`Meter`]). Called by what judges custom objects here, and by
//! `policy`. Never here: which objects a rule is about. Nothing that a text or a value says makes
//! this panic, take long, or go deeper than [`DEPTH_MAX`] (docs/adr/0036-rules.md).

mod check;
mod eval;
mod lex;
mod library;
mod parse;
mod syntax;
#[cfg(test)]
mod tests;
mod types;
mod value;

use std::fmt;

use lex::Wrong;
pub(in crate::kinds) use types::Type;
pub(in crate::kinds) use value::Value;

/// How deep an expression may be, so that nobody chooses our stack.
pub(super) const DEPTH_MAX: usize = 96;

/// Longest text of a rule, in bytes. Those that people write are below 4 KiB.
const TEXT_BYTES_MAX: usize = 32 << 10;

/// What one rule may spend on one value: about 100 ms at the worst. Kubernetes' own limit.
pub(in crate::kinds) const RULE_COST_MAX: u64 = 1_000_000;

/// What all rules may spend on one object. Kubernetes' own limit.
pub(in crate::kinds) const OBJECT_COST_MAX: u64 = 10_000_000;

/// Counts what an evaluation costs.
#[derive(Debug)]
pub(in crate::kinds) struct Meter {
    left: u64,
}

impl Meter {
    /// Runs one rule of an object that has this much left for all of them, and takes what it spent
    /// from that.
    pub(in crate::kinds) fn pay<T>(left: &mut u64, run: impl FnOnce(&mut Self) -> T) -> T {
        let start = (*left).min(RULE_COST_MAX);
        let mut meter = Self { left: start };
        let result = run(&mut meter);
        *left -= start - meter.left;
        result
    }

    fn spend(&mut self, cost: u64) -> Result<(), Failure> {
        match self.left.checked_sub(cost) {
            Some(left) => self.left = left,
            None => {
                self.left = 0;
                return Err(Failure::Cost);
            }
        }
        Ok(())
    }

    /// What was decoded to get a value, besides the step.
    fn spend_value(&mut self, value: &Value<'_>) -> Result<(), Failure> {
        match value {
            Value::Bytes(bytes) => self.spend_bytes(bytes.len()),
            _ => Ok(()),
        }
    }

    /// Bytes are looked at, or copied, ten to the step.
    fn spend_bytes(&mut self, bytes: usize) -> Result<(), Failure> {
        self.spend(1 + bytes as u64 / 10)
    }
}

/// Why a rule says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::kinds) enum Failure {
    /// It would take longer than it may.
    Cost,
    /// A function or an operator met a value that it does not take.
    Overload,
    /// A field that is not there, a number that is too large, and so on.
    Other(String),
}

impl Failure {
    fn other(text: impl Into<String>) -> Self {
        Self::Other(text.into())
    }

    fn no_overload() -> Self {
        Self::Overload
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cost => "operation cancelled: actual cost limit exceeded",
            Self::Overload => "no such overload",
            Self::Other(text) => text,
        })
    }
}

/// The names that a rule may use.
#[derive(Clone, Debug, Default)]
pub(in crate::kinds) struct Scope {
    names: Vec<(String, Type)>,
}

impl Scope {
    /// Adds a name; one that is there already is replaced.
    pub(in crate::kinds) fn declare(&mut self, name: &str, type_: Type) {
        self.names.retain(|(own, _)| own != name);
        self.names.push((name.to_owned(), type_));
    }

    fn get(&self, name: &str) -> Option<&Type> {
        self.names.iter().find(|(own, _)| own == name).map(|(_, type_)| type_)
    }

    fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }
}

/// What the names stand for in one evaluation.
#[derive(Debug, Default)]
pub(in crate::kinds) struct Given<'a> {
    names: Vec<(&'a str, Result<Value<'a>, Failure>)>,
}

impl<'a> Given<'a> {
    /// Gives a name its value, or the reason why it has none.
    pub(in crate::kinds) fn put(&mut self, name: &'a str, value: Result<Value<'a>, Failure>) {
        self.names.push((name, value));
    }

    fn get(&self, name: &str) -> Option<&Result<Value<'a>, Failure>> {
        self.names.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
    }
}

/// A rule that was read and makes sense.
#[derive(Debug)]
pub(in crate::kinds) struct Rule {
    expr: syntax::Expr,
    type_: Type,
}

impl Rule {
    /// Reads a rule and checks it; says all that is wrong with it, and where.
    pub(in crate::kinds) fn compile(text: &str, scope: &Scope) -> Result<Self, String> {
        if text.len() > TEXT_BYTES_MAX {
            return Err(format!("ERROR: <input>:1:1: longer than {TEXT_BYTES_MAX} bytes"));
        }
        let mut expr = parse::parse(text).map_err(|wrong| told(text, &[wrong]))?;
        let type_ = check::check(&mut expr, scope).map_err(|wrong| told(text, &wrong))?;
        Ok(Self { expr, type_ })
    }

    /// What it gives.
    pub(in crate::kinds) fn type_(&self) -> &Type {
        &self.type_
    }

    /// Whether it gives this, or may do so.
    pub(in crate::kinds) fn may_give(&self, wanted: &Type) -> bool {
        self.type_ == *wanted || self.type_ == Type::Any
    }

    /// Whether it uses a name.
    pub(in crate::kinds) fn names(&self, name: &str) -> bool {
        self.expr.names(name)
    }

    /// What it says of the given values.
    pub(in crate::kinds) fn run<'a>(
        &'a self,
        given: &Given<'a>,
        meter: &mut Meter,
    ) -> Result<Value<'a>, Failure> {
        eval::evaluate(&self.expr, given, meter)
    }

    /// As [`Rule::run`], for one that says whether something holds.
    pub(in crate::kinds) fn holds<'a>(
        &'a self,
        given: &Given<'a>,
        meter: &mut Meter,
    ) -> Result<bool, Failure> {
        match self.run(given, meter)? {
            Value::Bool(holds) => Ok(holds),
            _ => Err(Failure::Overload),
        }
    }

    /// As [`Rule::run`], for one that makes a text.
    pub(in crate::kinds) fn text<'a>(
        &'a self,
        given: &Given<'a>,
        meter: &mut Meter,
    ) -> Result<String, Failure> {
        match self.run(given, meter)? {
            Value::Text(text) => Ok((*text).to_owned()),
            _ => Err(Failure::Overload),
        }
    }
}

/// What is wrong, each with the line it is in and a mark below the place.
fn told(text: &str, wrong: &[Wrong]) -> String {
    let each = wrong.iter().map(|Wrong { at, what }| {
        let before = text.get(..*at).unwrap_or(text);
        let number = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |end| end + 1);
        let column = before[start..].chars().count();
        let line = text[start..].lines().next().unwrap_or_default();
        let mark = format!("{}^", ".".repeat(column));
        format!("ERROR: <input>:{number}:{}: {what}\n | {line}\n | {mark}", column + 1)
    });
    each.collect::<Vec<_>>().join("\n")
}
