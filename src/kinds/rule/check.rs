//! Whether a rule makes sense: every name, field and function it uses is there, and every call is
//! one that its types allow.

use super::{
    Scope,
    lex::Wrong,
    library,
    syntax::{Call, Expr, Loop, LoopKind, Node, Operator},
    types::Type,
};

/// Names that are types.
const TYPES: [&str; 9] = ["bool", "bytes", "double", "dyn", "int", "list", "map", "string", "uint"];

/// Most patterns that one rule spells out: reading each may take milliseconds.
const PATTERNS_MAX: usize = 64;

/// Finds the type of an expression and what is wrong with it. Names of variables are made whole,
/// and patterns are read.
pub(super) fn check(expr: &mut Expr, scope: &Scope) -> Result<Type, Vec<Wrong>> {
    let mut checker = Checker { scope, locals: Vec::new(), wrong: Vec::new(), patterns: 0 };
    let type_ = checker.type_of(expr);
    match checker.wrong.is_empty() {
        true => Ok(type_),
        false => Err(checker.wrong),
    }
}

struct Checker<'s> {
    scope: &'s Scope,
    locals: Vec<(String, Type)>,
    wrong: Vec<Wrong>,
    /// How many patterns were read.
    patterns: usize,
}

fn undeclared(name: &str) -> String {
    format!("undeclared reference to '{name}' (in container '')")
}

impl Checker<'_> {
    /// Notes an error; the rest is checked as if the expression were of any type.
    fn wrong(&mut self, at: usize, what: impl Into<String>) -> Type {
        self.wrong.push(Wrong::new(at, what));
        Type::Any
    }

    fn no_overload(&mut self, at: usize, name: &str, types: &[Type]) -> Type {
        let list: Vec<String> = types.iter().map(Type::to_string).collect();
        let list = list.join(", ");
        self.wrong(at, format!("found no matching overload for '{name}' applied to '({list})'"))
    }

    fn local(&self, name: &str) -> Option<&Type> {
        self.locals.iter().rev().find(|(own, _)| own == name).map(|(_, type_)| type_)
    }

    fn within(&mut self, names: Vec<(String, Type)>, expr: &mut Expr) -> Type {
        let before = self.locals.len();
        self.locals.extend(names);
        let type_ = self.type_of(expr);
        self.locals.truncate(before);
        type_
    }

    fn type_of(&mut self, expr: &mut Expr) -> Type {
        let at = expr.at;
        if let Some(name) = self.variable(&expr.node) {
            expr.node = Node::Name(name);
        }
        match &mut expr.node {
            Node::Null => Type::Null,
            Node::Bool(_) => Type::Bool,
            Node::Int(_) => Type::Int,
            Node::Uint(_) => Type::Uint,
            Node::Double(_) => Type::Double,
            Node::Text(_) => Type::Text,
            Node::Bytes(_) => Type::Bytes,
            Node::Name(name) => self.name(at, name),
            Node::Select { of, field, optional } => {
                let of = self.type_of(of);
                self.select(at, of, field, *optional)
            }
            Node::Has { of, field } => {
                let of = self.type_of(of);
                self.select(at, of, field, false);
                Type::Bool
            }
            Node::Index { of, index, optional } => {
                let types = [self.type_of(of), self.type_of(index)];
                self.index(at, types, *optional)
            }
            Node::Call(call) => self.call(at, call),
            Node::Binary(operator, both) => {
                let types = [self.type_of(&mut both.0), self.type_of(&mut both.1)];
                match binary(*operator, &types[0], &types[1]) {
                    Some(type_) => type_,
                    None => self.no_overload(at, operator.name(), &types),
                }
            }
            Node::Not(inner) => {
                self.truth(at, "!_", [&mut **inner]);
                Type::Bool
            }
            Node::And(list) => {
                self.truth(at, "_&&_", list);
                Type::Bool
            }
            Node::Or(list) => {
                self.truth(at, "_||_", list);
                Type::Bool
            }
            Node::Minus(inner) => match self.type_of(inner) {
                type_ @ (Type::Int | Type::Double | Type::Duration | Type::Any) => type_,
                other => self.no_overload(at, "-_", &[other]),
            },
            Node::If(all) => {
                self.truth(at, "_?_:_", [&mut all.0]);
                let (yes, no) = (self.type_of(&mut all.1), self.type_of(&mut all.2));
                yes.with(no)
            }
            Node::List(items) => {
                let types: Vec<Type> = items
                    .iter_mut()
                    .map(|(item, optional)| {
                        let type_ = self.type_of(item);
                        if *optional { present(type_) } else { type_ }
                    })
                    .collect();
                Type::list(types.into_iter().reduce(Type::with).unwrap_or(Type::Any))
            }
            Node::Map(entries) => {
                let mut types = Vec::new();
                for (key, value, optional) in entries {
                    self.type_of(key);
                    let type_ = self.type_of(value);
                    types.push(if *optional { present(type_) } else { type_ });
                }
                Type::map(types.into_iter().reduce(Type::with).unwrap_or(Type::Any))
            }
            Node::Loop(over) => self.loop_over(at, over),
            Node::Bind { name, value, body } => {
                let type_ = self.type_of(value);
                self.within(vec![(name.clone(), type_)], body)
            }
            Node::OptionalMap { of, name, body, flat } => {
                let inner = match self.type_of(of) {
                    Type::Optional(inner) => inner.as_ref().clone(),
                    Type::Any => Type::Any,
                    other => {
                        return self.no_overload(at, "optMap", &[other]);
                    }
                };
                let made = self.within(vec![(name.clone(), inner)], body);
                if *flat { made } else { Type::optional(made) }
            }
        }
    }

    /// The whole name of `variables.x`.
    fn variable(&self, node: &Node) -> Option<String> {
        let Node::Select { of, field, optional: false } = node else { return None };
        let is_ours = matches!(&of.node, Node::Name(name) if name == "variables");
        let whole = format!("variables.{field}");
        let found = is_ours && self.local("variables").is_none() && self.scope.has(&whole);
        found.then_some(whole)
    }

    fn name(&mut self, at: usize, name: &str) -> Type {
        let found = self.local(name).or_else(|| self.scope.get(name)).cloned();
        match found {
            Some(type_) => type_,
            None if TYPES.contains(&name) || name == "null_type" => Type::Meta,
            None => self.wrong(at, undeclared(name)),
        }
    }

    fn select(&mut self, at: usize, of: Type, field: &str, optional: bool) -> Type {
        let (of, optional) = match of {
            Type::Optional(inner) => (inner.as_ref().clone(), true),
            of => (of, optional),
        };
        let found = match of {
            Type::Any | Type::Null => Type::Any,
            Type::Map(value) => value.as_ref().clone(),
            Type::Object(fields) => match fields.get(field) {
                Some(field) => field.type_.clone(),
                None => return self.wrong(at, format!("undefined field '{field}'")),
            },
            other => {
                let text = format!("type '{other}' does not support field selection");
                return self.wrong(at, text);
            }
        };
        if optional { Type::optional(found) } else { found }
    }

    fn index(&mut self, at: usize, types: [Type; 2], optional: bool) -> Type {
        let [of, by] = &types;
        let (of, optional) = match of {
            Type::Optional(inner) => (inner.as_ref(), true),
            of => (of, optional),
        };
        let number = matches!(by, Type::Int | Type::Uint | Type::Double | Type::Any);
        let found = match of {
            Type::Any | Type::Null => Type::Any,
            Type::List(item) if number => item.as_ref().clone(),
            Type::Map(value) => value.as_ref().clone(),
            _ => return self.no_overload(at, "_[_]", &types),
        };
        if optional { Type::optional(found) } else { found }
    }

    fn truth<'e>(&mut self, at: usize, name: &str, list: impl IntoIterator<Item = &'e mut Expr>) {
        let types: Vec<Type> = list.into_iter().map(|expr| self.type_of(expr)).collect();
        if types.iter().any(|type_| !matches!(type_, Type::Bool | Type::Any | Type::Null)) {
            self.no_overload(at, name, &types);
        }
    }

    fn call(&mut self, at: usize, call: &mut Call) -> Type {
        let is_member = call.of.is_some();
        let of = call.of.as_mut().map(|of| self.type_of(of));
        let args: Vec<Type> = call.args.iter_mut().map(|arg| self.type_of(arg)).collect();
        let types: Vec<Type> = of.into_iter().chain(args).collect();
        let mut known = library::named(&call.name, is_member).peekable();
        if known.peek().is_none() {
            return self.wrong(at, undeclared(&call.name));
        }
        let gives: Vec<Type> = known
            .filter(|function| function.takes_types(&types))
            .map(|function| function.gives(&types))
            .collect();
        let Some(type_) = gives.into_iter().reduce(Type::with) else {
            let list: Vec<String> = types.iter().map(Type::to_string).collect();
            let shown = match is_member {
                true => format!("{}.({})", list[0], list[1..].join(", ")),
                false => format!("({})", list.join(", ")),
            };
            let name = &call.name;
            let text = format!("found no matching overload for '{name}' applied to '{shown}'");
            return self.wrong(at, text);
        };
        self.read_pattern(call);
        type_
    }

    /// A pattern that is spelled out is read now: a wrong one is told now, and it is read once.
    fn read_pattern(&mut self, call: &mut Call) {
        let place = if call.of.is_some() { 0 } else { 1 };
        let Some(arg) = call.args.get(place) else { return };
        if let ("matches" | "find" | "findAll", Node::Text(text)) = (&*call.name, &arg.node) {
            self.patterns += 1;
            if self.patterns > PATTERNS_MAX {
                self.wrong(arg.at, format!("more than {PATTERNS_MAX} patterns"));
                return;
            }
            match library::pattern(text) {
                Ok(pattern) => call.pattern = Some(pattern),
                Err(error) => {
                    let (at, text) = (arg.at, format!("invalid {} argument: {error}", call.name));
                    self.wrong(at, text);
                }
            }
        }
    }

    fn loop_over(&mut self, at: usize, over: &mut Loop) -> Type {
        let (key, value) = match self.type_of(&mut over.over) {
            Type::List(item) => (Type::Int, item.as_ref().clone()),
            Type::Map(value) => (Type::Text, value.as_ref().clone()),
            Type::Any => (Type::Any, Type::Any),
            other => {
                let text = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be \
                     list, map, or dynamic)"
                );
                return self.wrong(at, text);
            }
        };
        let is_map = key == Type::Text;
        let one = if is_map { key.clone() } else { value.clone() };
        let names = match &over.second {
            Some(second) => vec![(over.name.clone(), key), (second.clone(), value)],
            None => vec![(over.name.clone(), one.clone())],
        };
        if let Some(filter) = &mut over.filter {
            let type_ = self.within(names.clone(), filter);
            self.is_bool(filter.at, &type_);
        }
        let body = self.within(names, &mut over.body);
        if !matches!(over.kind, LoopKind::Map | LoopKind::MapValues) {
            self.is_bool(over.body.at, &body);
        }
        match over.kind {
            LoopKind::All | LoopKind::Exists | LoopKind::ExistsOne => Type::Bool,
            LoopKind::Filter => Type::list(one),
            LoopKind::Map => Type::list(body),
            LoopKind::MapValues => Type::map(body),
        }
    }

    fn is_bool(&mut self, at: usize, type_: &Type) {
        if !matches!(type_, Type::Bool | Type::Any | Type::Null) {
            self.wrong(at, format!("expected type 'bool' but found '{type_}'"));
        }
    }
}

/// What is in an optional item of a list.
fn present(type_: Type) -> Type {
    match type_ {
        Type::Optional(inner) => inner.as_ref().clone(),
        other => other,
    }
}

/// What an operator gives for two types; `None` where it takes no such types.
fn binary(operator: Operator, left: &Type, right: &Type) -> Option<Type> {
    use Type::{Any, Bytes, Duration, Int, List, Null, Text, Time, Uint};
    let is_number = |type_: &Type| matches!(type_, Int | Uint | Type::Double);
    match operator {
        Operator::Equal | Operator::NotEqual => left.fits(right).then_some(Type::Bool),
        Operator::Less | Operator::LessOrEqual | Operator::Greater | Operator::GreaterOrEqual => {
            let ordered = matches!(left, Type::Bool | Text | Bytes | Time | Duration)
                && left.fits(right)
                || is_number(left) && (is_number(right) || *right == Any)
                || *left == Any && !matches!(right, Null | List(_) | Type::Map(_));
            ordered.then_some(Type::Bool)
        }
        Operator::In => match right {
            List(item) => left.fits(item).then_some(Type::Bool),
            Type::Map(_) | Any => Some(Type::Bool),
            _ => None,
        },
        _ => arithmetic(operator, left, right),
    }
}

fn arithmetic(operator: Operator, left: &Type, right: &Type) -> Option<Type> {
    use Type::{Any, Bytes, Double, Duration, Int, List, Text, Time, Uint};
    Some(match (operator, left, right) {
        (_, Any, _) | (_, _, Any) => Any,
        (_, Int, Int) => Int,
        (_, Uint, Uint) => Uint,
        (Operator::Modulo, ..) => return None,
        (_, Double, Double) => Double,
        (Operator::Add, Text, Text) => Text,
        (Operator::Add, Bytes, Bytes) => Bytes,
        (Operator::Add, List(own), List(other)) => {
            Type::list(own.as_ref().clone().with(other.as_ref().clone()))
        }
        (Operator::Add, Time, Duration) | (Operator::Add, Duration, Time) => Time,
        (Operator::Subtract, Time, Duration) => Time,
        (Operator::Subtract, Time, Time) => Duration,
        (Operator::Add | Operator::Subtract, Duration, Duration) => Duration,
        _ => return None,
    })
}
