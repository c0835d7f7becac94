//! What a rule says of given values. Every step is paid for, so that none takes long.

use super::{
    Failure, Given, Meter, library,
    syntax::{Call, Expr, Loop, LoopKind, Node, Operator},
    value::{Map, Value},
};

type Said<'a> = Result<Value<'a>, Failure>;

/// Evaluates an expression.
pub(super) fn evaluate<'a>(expr: &'a Expr, given: &Given<'a>, meter: &mut Meter) -> Said<'a> {
    Evaluation { given, meter, locals: Vec::new() }.value(expr)
}

struct Evaluation<'a, 'm> {
    given: &'m Given<'a>,
    meter: &'m mut Meter,
    /// The names that loops give, the innermost last.
    locals: Vec<(&'a str, Value<'a>)>,
}

fn overflow() -> Failure {
    Failure::other("integer overflow")
}

/// An operation on two whole numbers, with or without a sign.
macro_rules! whole {
    ($operator:expr, $a:expr, $b:expr) => {
        match $operator {
            op @ (Operator::Divide | Operator::Modulo) if $b == 0 => Err(by_zero(op)),
            Operator::Add => $a.checked_add($b).ok_or_else(overflow),
            Operator::Subtract => $a.checked_sub($b).ok_or_else(overflow),
            Operator::Multiply => $a.checked_mul($b).ok_or_else(overflow),
            Operator::Divide => $a.checked_div($b).ok_or_else(overflow),
            _ => $a.checked_rem($b).ok_or_else(overflow),
        }
    };
}

impl<'a> Evaluation<'a, '_> {
    fn value(&mut self, expr: &'a Expr) -> Said<'a> {
        self.meter.spend(1)?;
        match &expr.node {
            Node::Null => Ok(Value::Null),
            Node::Bool(yes) => Ok(Value::Bool(*yes)),
            Node::Int(n) => Ok(Value::Int(*n)),
            Node::Uint(n) => Ok(Value::Uint(*n)),
            Node::Double(n) => Ok(Value::Double(*n)),
            Node::Text(text) => Ok(Value::stored(text)),
            Node::Bytes(bytes) => {
                self.meter.spend_bytes(bytes.len())?;
                Ok(Value::Bytes(bytes.as_slice().into()))
            }
            Node::Name(name) => self.name(name),
            Node::Select { of, field, optional } => {
                let of = self.value(of)?;
                self.select(of, field, *optional)
            }
            Node::Has { of, field } => {
                let of = self.value(of)?;
                Ok(Value::Bool(match of {
                    Value::Map(map) => map.has(field),
                    Value::Optional(None) => false,
                    Value::Optional(Some(inner)) => match inner.as_ref() {
                        Value::Map(map) => map.has(field),
                        _ => return Err(Failure::no_overload()),
                    },
                    _ => return Err(Failure::no_overload()),
                }))
            }
            Node::Index { of, index, optional } => {
                let (of, index) = (self.value(of)?, self.value(index)?);
                self.index(of, &index, *optional)
            }
            Node::Call(call) => self.call(call),
            Node::Binary(operator, both) => {
                let (left, right) = (self.value(&both.0)?, self.value(&both.1)?);
                self.binary(*operator, left, right)
            }
            Node::Not(inner) => Ok(Value::Bool(!self.truth(inner)?)),
            Node::Minus(inner) => match self.value(inner)? {
                Value::Int(n) => n.checked_neg().map(Value::Int).ok_or_else(overflow),
                Value::Double(n) => Ok(Value::Double(-n)),
                Value::Duration(l) => l.checked_neg().map(Value::Duration).ok_or_else(overflow),
                _ => Err(Failure::no_overload()),
            },
            Node::And(list) => self.until(list, false),
            Node::Or(list) => self.until(list, true),
            Node::If(all) => match self.truth(&all.0)? {
                true => self.value(&all.1),
                false => self.value(&all.2),
            },
            Node::List(items) => self.list(items),
            Node::Map(entries) => self.map(entries),
            Node::Loop(over) => self.loop_over(over),
            Node::Bind { name, value, body } => {
                let value = self.value(value)?;
                self.with([(name.as_str(), value)], body)
            }
            Node::OptionalMap { of, name, body, flat } => match self.value(of)? {
                Value::Optional(None) => Ok(Value::Optional(None)),
                Value::Optional(Some(inner)) => {
                    let made = self.with([(name.as_str(), inner.as_ref().clone())], body)?;
                    match (flat, made) {
                        (false, made) => Ok(Value::optional(Some(made))),
                        (true, made @ Value::Optional(_)) => Ok(made),
                        (true, _) => Err(Failure::no_overload()),
                    }
                }
                _ => Err(Failure::no_overload()),
            },
        }
    }

    fn with<const N: usize>(
        &mut self,
        names: [(&'a str, Value<'a>); N],
        body: &'a Expr,
    ) -> Said<'a> {
        let before = self.locals.len();
        self.locals.extend(names);
        let value = self.value(body);
        self.locals.truncate(before);
        value
    }

    fn name(&self, name: &'a str) -> Said<'a> {
        if let Some((_, value)) = self.locals.iter().rev().find(|(own, _)| *own == name) {
            return Ok(value.clone());
        }
        match self.given.get(name) {
            Some(given) => given.clone(),
            // What is declared is given; the rest are names of types.
            None => Ok(Value::Type(match name {
                "bool" => "bool",
                "bytes" => "bytes",
                "double" => "double",
                "int" => "int",
                "list" => "list",
                "map" => "map",
                "string" => "string",
                "uint" => "uint",
                "null_type" => "null_type",
                _ => return Err(Failure::other(format!("no such attribute(s): {name}"))),
            })),
        }
    }

    fn truth(&mut self, expr: &'a Expr) -> Result<bool, Failure> {
        match self.value(expr)? {
            Value::Bool(yes) => Ok(yes),
            _ => Err(Failure::no_overload()),
        }
    }

    /// The first truth that decides does, even when one before it could not be evaluated.
    fn until(&mut self, list: &'a [Expr], decides: bool) -> Said<'a> {
        let mut failed = None;
        for expr in list {
            match self.truth(expr) {
                Ok(truth) if truth == decides => return Ok(Value::Bool(decides)),
                Ok(_) => {}
                Err(Failure::Cost) => return Err(Failure::Cost),
                Err(failure) => failed = failed.or(Some(failure)),
            }
        }
        failed.map_or(Ok(Value::Bool(!decides)), Err)
    }

    fn select(&mut self, of: Value<'a>, field: &str, optional: bool) -> Said<'a> {
        match (of, optional) {
            (Value::Map(map), false) => match self.field(&map, field)? {
                Some(found) => Ok(found),
                None => Err(Failure::other(format!("no such key: {field}"))),
            },
            (Value::Map(map), true) => Ok(Value::optional(self.field(&map, field)?)),
            (Value::Optional(None), _) => Ok(Value::Optional(None)),
            (Value::Optional(Some(inner)), _) => match inner.as_ref() {
                Value::Map(map) => Ok(Value::optional(self.field(map, field)?)),
                _ => Err(Failure::no_overload()),
            },
            _ => Err(Failure::no_overload()),
        }
    }

    fn field(&mut self, map: &Map<'a>, name: &str) -> Result<Option<Value<'a>>, Failure> {
        let found = map.field(name).transpose()?;
        found.iter().try_for_each(|value| self.meter.spend_value(value))?;
        Ok(found)
    }

    fn index(&mut self, of: Value<'a>, index: &Value<'a>, optional: bool) -> Said<'a> {
        let (of, optional) = match of {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => (inner.as_ref().clone(), true),
            of => (of, optional),
        };
        let found = match (&of, index) {
            (Value::List(list), index) => {
                let at = match index {
                    Value::Int(n) => usize::try_from(*n).ok(),
                    Value::Uint(n) => usize::try_from(*n).ok(),
                    Value::Double(n) if n.fract() == 0.0 && *n >= 0.0 && *n < 1e15 => {
                        Some(*n as usize)
                    }
                    Value::Double(_) => None,
                    _ => return Err(Failure::no_overload()),
                };
                at.and_then(|at| list.get(at)).transpose()?
            }
            (Value::Map(map), index) => map.get(index, self.meter)?,
            _ => return Err(Failure::no_overload()),
        };
        found.iter().try_for_each(|value| self.meter.spend_value(value))?;
        match (found, optional) {
            (found, true) => Ok(Value::optional(found)),
            (Some(found), false) => Ok(found),
            (None, false) => {
                let shown = library::as_text(index, self.meter)?;
                Err(Failure::other(match of {
                    Value::List(_) => format!("index out of bounds: {shown}"),
                    _ => format!("no such key: {shown}"),
                }))
            }
        }
    }

    fn call(&mut self, call: &'a Call) -> Said<'a> {
        let mut values = Vec::with_capacity(call.args.len() + 1);
        for arg in call.of.iter().map(|of| &**of).chain(&call.args) {
            let value = self.value(arg)?;
            // Whatever a function does with a text, it looks at it.
            if let Value::Text(text) = &value {
                self.meter.spend_bytes(text.len())?;
            }
            values.push(value);
        }
        let fitting = library::named(&call.name, call.of.is_some()).find(|f| f.takes(&values));
        let function = fitting.ok_or_else(Failure::no_overload)?;
        match &call.pattern {
            Some(pattern) => pattern.run(&call.name, &values, self.meter),
            None => (function.run)(&values, self.meter),
        }
    }

    fn list(&mut self, items: &'a [(Expr, bool)]) -> Said<'a> {
        let mut list = Vec::with_capacity(items.len());
        for (item, optional) in items {
            match (self.value(item)?, optional) {
                (value, false) => list.push(value),
                (Value::Optional(inner), true) => {
                    list.extend(inner.map(|inner| inner.as_ref().clone()));
                }
                (_, true) => return Err(Failure::no_overload()),
            }
        }
        Ok(Value::list(list))
    }

    fn map(&mut self, entries: &'a [(Expr, Expr, bool)]) -> Said<'a> {
        let mut made: Vec<(Value<'a>, Value<'a>)> = Vec::with_capacity(entries.len());
        for (key, value, optional) in entries {
            let (key, value) = (self.value(key)?, self.value(value)?);
            let is_key =
                matches!(key, Value::Text(_) | Value::Int(_) | Value::Uint(_) | Value::Bool(_));
            if !is_key {
                return Err(Failure::other("unsupported key type"));
            }
            for (other, _) in &made {
                if other.equals(&key, self.meter)? {
                    let shown = library::as_text(&key, self.meter)?;
                    return Err(Failure::other(format!(
                        "insert failed: key {shown} already exists"
                    )));
                }
            }
            match (value, optional) {
                (value, false) => made.push((key, value)),
                (Value::Optional(inner), true) => {
                    made.extend(inner.map(|inner| (key, inner.as_ref().clone())));
                }
                (_, true) => return Err(Failure::no_overload()),
            }
        }
        Ok(Value::map(made))
    }

    /// What a loop runs over: the key or index of each, and the value.
    fn entries(&mut self, over: Value<'a>) -> Result<Vec<(Value<'a>, Value<'a>)>, Failure> {
        let entries: Vec<(Value<'a>, Value<'a>)> = match over {
            Value::List(list) => {
                self.meter.spend(list.len() as u64)?;
                let index = |at: usize| Value::Int(i64::try_from(at).unwrap_or(i64::MAX));
                list.items()?.into_iter().enumerate().map(|(at, v)| (index(at), v)).collect()
            }
            Value::Map(map) => {
                self.meter.spend(map.len() as u64)?;
                map.entries()?
            }
            _ => return Err(Failure::no_overload()),
        };
        entries.iter().try_for_each(|(_, value)| self.meter.spend_value(value))?;
        Ok(entries)
    }

    fn loop_over(&mut self, over: &'a Loop) -> Said<'a> {
        let range = self.value(&over.over)?;
        let is_map = matches!(range, Value::Map(_));
        let (mut made, mut failed, mut count) = (Vec::new(), None, 0);
        for (key, value) in self.entries(range)? {
            let one = if is_map { key.clone() } else { value.clone() };
            let before = self.locals.len();
            match &over.second {
                Some(second) => {
                    self.locals.push((&over.name, key.clone()));
                    self.locals.push((second, value));
                }
                None => self.locals.push((&over.name, one.clone())),
            }
            let said = self.turn(over);
            self.locals.truncate(before);
            match (over.kind, said) {
                (_, Err(Failure::Cost)) => return Err(Failure::Cost),
                (LoopKind::All | LoopKind::Exists, Err(failure)) => {
                    failed = failed.or(Some(failure));
                }
                (_, Err(failure)) => return Err(failure),
                (_, Ok(None)) => {}
                (LoopKind::Map, Ok(Some(value))) => made.push((key, value)),
                (LoopKind::MapValues, Ok(Some(value))) => made.push((key, value)),
                (kind, Ok(Some(Value::Bool(yes)))) => match (kind, yes) {
                    (LoopKind::All, false) => return Ok(Value::Bool(false)),
                    (LoopKind::Exists, true) => return Ok(Value::Bool(true)),
                    (LoopKind::Filter, true) => made.push((key, one)),
                    (_, yes) => count += u64::from(yes),
                },
                (LoopKind::All | LoopKind::Exists, Ok(Some(_))) => {
                    failed = failed.or(Some(Failure::no_overload()));
                }
                (_, Ok(Some(_))) => return Err(Failure::no_overload()),
            }
        }
        if let Some(failure) = failed {
            return Err(failure);
        }
        Ok(match over.kind {
            LoopKind::All => Value::Bool(true),
            LoopKind::Exists => Value::Bool(false),
            LoopKind::ExistsOne => Value::Bool(count == 1),
            LoopKind::MapValues => Value::map(made),
            LoopKind::Filter | LoopKind::Map => {
                Value::list(made.into_iter().map(|(_, value)| value).collect())
            }
        })
    }

    /// One turn of a loop; `None` for what its filter leaves out.
    fn turn(&mut self, over: &'a Loop) -> Result<Option<Value<'a>>, Failure> {
        if let Some(filter) = &over.filter
            && !self.truth(filter)?
        {
            return Ok(None);
        }
        self.value(&over.body).map(Some)
    }

    fn binary(&mut self, operator: Operator, left: Value<'a>, right: Value<'a>) -> Said<'a> {
        use std::cmp::Ordering::{Greater, Less};
        let ordered = |meter: &mut Meter| {
            if let (Value::Text(left), Value::Text(right)) = (&left, &right) {
                meter.spend_bytes(left.len().min(right.len()))?;
            }
            let both_nan = matches!((&left, &right), (Value::Double(_), _) | (_, Value::Double(_)));
            match left.compare(&right) {
                None if both_nan && left.is_number() && right.is_number() => Ok(None),
                None => Err(Failure::no_overload()),
                order => Ok(order),
            }
        };
        Ok(match operator {
            Operator::Equal => Value::Bool(left.equals(&right, self.meter)?),
            Operator::NotEqual => Value::Bool(!left.equals(&right, self.meter)?),
            Operator::Less => Value::Bool(ordered(self.meter)? == Some(Less)),
            Operator::Greater => Value::Bool(ordered(self.meter)? == Some(Greater)),
            Operator::LessOrEqual => {
                Value::Bool(ordered(self.meter)?.is_some_and(|order| order != Greater))
            }
            Operator::GreaterOrEqual => {
                Value::Bool(ordered(self.meter)?.is_some_and(|order| order != Less))
            }
            Operator::In => self.is_in(&left, &right)?,
            _ => return self.arithmetic(operator, left, right),
        })
    }

    fn is_in(&mut self, wanted: &Value<'a>, among: &Value<'a>) -> Said<'a> {
        Ok(Value::Bool(match among {
            Value::Map(map) => match wanted {
                Value::Text(name) => {
                    self.meter.spend_bytes(name.len())?;
                    map.has(name)
                }
                wanted => map.get(wanted, self.meter)?.is_some(),
            },
            Value::List(list) => {
                let mut found = false;
                for index in 0..list.len() {
                    let Some(item) = list.get(index) else { break };
                    if item?.equals(wanted, self.meter)? {
                        found = true;
                        break;
                    }
                }
                found
            }
            _ => return Err(Failure::no_overload()),
        }))
    }

    fn arithmetic(&mut self, operator: Operator, left: Value<'a>, right: Value<'a>) -> Said<'a> {
        use Operator::{Add, Divide, Multiply, Subtract};
        match (operator, left, right) {
            (op, Value::Int(a), Value::Int(b)) => whole!(op, a, b).map(Value::Int),
            (op, Value::Uint(a), Value::Uint(b)) => whole!(op, a, b).map(Value::Uint),
            (Add, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a + b)),
            (Subtract, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a - b)),
            (Multiply, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a * b)),
            (Divide, Value::Double(a), Value::Double(b)) => Ok(Value::Double(a / b)),
            (Add, Value::Text(a), Value::Text(b)) => {
                self.meter.spend_bytes(a.len() + b.len())?;
                Ok(Value::text([&*a, &*b].concat()))
            }
            (Add, Value::Bytes(a), Value::Bytes(b)) => {
                self.meter.spend_bytes(a.len() + b.len())?;
                Ok(Value::Bytes([&*a, &*b].concat().into()))
            }
            (Add, Value::List(a), Value::List(b)) => {
                self.meter.spend((a.len() + b.len()) as u64)?;
                let mut all = a.items()?;
                all.extend(b.items()?);
                all.iter().try_for_each(|item| self.meter.spend_value(item))?;
                Ok(Value::list(all))
            }
            (Add, Value::Time(time), Value::Duration(length))
            | (Add, Value::Duration(length), Value::Time(time)) => {
                time.checked_add(length).map(Value::Time).map_err(|_| overflow())
            }
            (Subtract, Value::Time(time), Value::Duration(length)) => {
                time.checked_sub(length).map(Value::Time).map_err(|_| overflow())
            }
            (Subtract, Value::Time(a), Value::Time(b)) => Ok(Value::Duration(a.duration_since(b))),
            (Add, Value::Duration(a), Value::Duration(b)) => {
                a.checked_add(b).map(Value::Duration).ok_or_else(overflow)
            }
            (Subtract, Value::Duration(a), Value::Duration(b)) => {
                a.checked_sub(b).map(Value::Duration).ok_or_else(overflow)
            }
            _ => Err(Failure::no_overload()),
        }
    }
}

fn by_zero(operator: Operator) -> Failure {
    Failure::other(match operator {
        Operator::Divide => "division by zero",
        _ => "modulus by zero",
    })
}

impl Value<'_> {
    fn is_number(&self) -> bool {
        matches!(self, Self::Int(_) | Self::Uint(_) | Self::Double(_))
    }
}
