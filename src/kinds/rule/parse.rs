//! From words to a tree, by the grammar of CEL (github.com/google/cel-spec, doc/langdef.md).
//!
//! Its macros (`has`, `all`, `map`, `cel.bind` and so on) are nodes of their own. How deep a tree
//! may become is bounded, and so is what walks it afterwards.

use super::{
    DEPTH_MAX,
    lex::{self, Word, Wrong},
    library,
    syntax::{Call, Expr, Loop, LoopKind, Node, Operator},
};

type Parsed = Result<Expr, Wrong>;

/// Words that no name may be.
pub(super) const RESERVED: [&str; 15] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
];

/// The operators between two expressions and how strongly they bind.
const BINARY: [(&str, Operator, u8); 11] = [
    ("==", Operator::Equal, 1),
    ("!=", Operator::NotEqual, 1),
    ("<=", Operator::LessOrEqual, 1),
    ("<", Operator::Less, 1),
    (">=", Operator::GreaterOrEqual, 1),
    (">", Operator::Greater, 1),
    ("+", Operator::Add, 2),
    ("-", Operator::Subtract, 2),
    ("*", Operator::Multiply, 3),
    ("/", Operator::Divide, 3),
    ("%", Operator::Modulo, 3),
];

/// Reads one whole expression.
pub(super) fn parse(text: &str) -> Parsed {
    let mut parser = Parser { words: lex::words(text)?, next: 0, depth: 0 };
    let expr = parser.expression()?;
    match parser.peek() {
        Word::End => Ok(expr),
        _ => parser.unexpected("expecting <EOF>"),
    }
}

struct Parser {
    words: Vec<(usize, Word)>,
    next: usize,
    /// How many expressions are begun around this one.
    depth: usize,
}

fn too_deep(at: usize) -> Wrong {
    Wrong::new(at, format!("expression recursion limit exceeded: {DEPTH_MAX}"))
}

fn node(at: usize, node: Node) -> Parsed {
    let mut expr = Expr { at, depth: 0, node };
    let below = expr.children().iter().map(|inner| inner.depth).max();
    expr.depth = below.map_or(0, |below| below + 1);
    if expr.depth > DEPTH_MAX {
        return Err(too_deep(at));
    }
    Ok(expr)
}

impl Parser {
    fn peek(&self) -> &Word {
        self.words.get(self.next).map_or(&Word::End, |(_, word)| word)
    }

    fn at(&self) -> usize {
        self.words.get(self.next).or(self.words.last()).map_or(0, |(at, _)| *at)
    }

    fn is(&self, sign: &str) -> bool {
        matches!(self.peek(), Word::Sign(own) if *own == sign)
    }

    /// Takes a sign if it is the next word; gives where it stood.
    fn take(&mut self, sign: &str) -> Option<usize> {
        let at = self.at();
        self.is(sign).then(|| {
            self.next += 1;
            at
        })
    }

    fn need(&mut self, sign: &str) -> Result<usize, Wrong> {
        match self.take(sign) {
            Some(at) => Ok(at),
            None => self.unexpected(&format!("expecting '{sign}'")),
        }
    }

    fn unexpected<T>(&self, wanted: &str) -> Result<T, Wrong> {
        let found = match self.peek() {
            Word::Name(name) | Word::Quoted(name) => name.clone(),
            Word::Int(n) | Word::Uint(n) => n.to_string(),
            Word::Double(n) => n.to_string(),
            Word::Text(text) => format!("{text:?}"),
            Word::Bytes(_) => "bytes".to_owned(),
            Word::Sign(sign) => (*sign).to_owned(),
            Word::End => "<EOF>".to_owned(),
        };
        Err(Wrong::new(self.at(), format!("Syntax error: mismatched input '{found}' {wanted}")))
    }

    /// `a ? b : c`, and everything that binds more strongly.
    fn expression(&mut self) -> Parsed {
        if self.depth == DEPTH_MAX {
            return Err(too_deep(self.at()));
        }
        self.depth += 1;
        let condition = self.alternatives()?;
        let parsed = match self.take("?") {
            None => Ok(condition),
            Some(at) => {
                let yes = self.alternatives()?;
                self.need(":")?;
                let no = self.expression()?;
                node(at, Node::If(Box::new((condition, yes, no))))
            }
        };
        self.depth -= 1;
        parsed
    }

    fn alternatives(&mut self) -> Parsed {
        let at = self.at();
        let mut list = vec![self.conditions()?];
        while self.take("||").is_some() {
            list.push(self.conditions()?);
        }
        match list.len() {
            1 => Ok(list.remove(0)),
            _ => node(at, Node::Or(list)),
        }
    }

    fn conditions(&mut self) -> Parsed {
        let at = self.at();
        let mut list = vec![self.operation(1)?];
        while self.take("&&").is_some() {
            list.push(self.operation(1)?);
        }
        match list.len() {
            1 => Ok(list.remove(0)),
            _ => node(at, Node::And(list)),
        }
    }

    fn operator(&self) -> Option<(Operator, u8)> {
        match self.peek() {
            Word::Sign(sign) => {
                BINARY.iter().find(|(own, ..)| own == sign).map(|(_, op, level)| (*op, *level))
            }
            Word::Name(name) if name == "in" => Some((Operator::In, 1)),
            _ => None,
        }
    }

    /// Comparisons, sums and products: those that bind at least as strongly as `level`.
    fn operation(&mut self, level: u8) -> Parsed {
        let mut left = self.unary()?;
        while let Some((operator, own)) = self.operator().filter(|(_, own)| *own >= level) {
            let at = self.at();
            self.next += 1;
            let right = self.operation(own + 1)?;
            left = node(at, Node::Binary(operator, Box::new((left, right))))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed {
        let at = self.at();
        let mut nots = 0;
        while self.take("!").is_some() {
            nots += 1;
        }
        if nots > 0 {
            let inner = self.member()?;
            return match nots % 2 {
                1 => node(at, Node::Not(Box::new(inner))),
                _ => Ok(inner),
            };
        }
        let mut minus = 0;
        while self.take("-").is_some() {
            minus += 1;
        }
        if minus % 2 == 0 {
            return self.member();
        }
        match self.peek() {
            Word::Int(amount) => {
                let number = 0i64.checked_sub_unsigned(*amount);
                let number = number.ok_or_else(|| Wrong::new(at, "invalid int literal"))?;
                self.next += 1;
                self.members(node(at, Node::Int(number))?)
            }
            Word::Double(number) => {
                let number = -number;
                self.next += 1;
                self.members(node(at, Node::Double(number))?)
            }
            _ => {
                let inner = self.member()?;
                node(at, Node::Minus(Box::new(inner)))
            }
        }
    }

    fn member(&mut self) -> Parsed {
        let primary = self.primary()?;
        self.members(primary)
    }

    /// What follows an expression: `.field`, `.call()`, `[index]`.
    fn members(&mut self, mut of: Expr) -> Parsed {
        loop {
            if let Some(at) = self.take(".") {
                let name = self.field()?;
                of = match self.take("(") {
                    Some(at) => {
                        let args = self.list(")")?;
                        self.call(at, Some(of), name, args)?
                    }
                    None => {
                        node(at, Node::Select { of: Box::new(of), field: name, optional: false })?
                    }
                };
            } else if let Some(at) = self.take(".?") {
                let field = self.field()?;
                of = node(at, Node::Select { of: Box::new(of), field, optional: true })?;
            } else if let Some(at) = self.take("[").or_else(|| self.take("[?")) {
                let optional = matches!(self.words[self.next - 1].1, Word::Sign("[?"));
                let index = Box::new(self.expression()?);
                self.need("]")?;
                of = node(at, Node::Index { of: Box::new(of), index, optional })?;
            } else {
                return Ok(of);
            }
        }
    }

    fn field(&mut self) -> Result<String, Wrong> {
        let (Word::Name(name) | Word::Quoted(name)) = self.peek() else {
            return self.unexpected("expecting IDENTIFIER");
        };
        let name = name.clone();
        self.next += 1;
        Ok(name)
    }

    /// What stands between commas up to the closing sign.
    fn list(&mut self, end: &str) -> Result<Vec<Expr>, Wrong> {
        let mut list = Vec::new();
        while self.take(end).is_none() {
            list.push(self.expression()?);
            if self.take(",").is_none() {
                self.need(end)?;
                break;
            }
            if end == ")" && self.is(end) {
                return self.unexpected("expecting an argument");
            }
        }
        Ok(list)
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        let word = self.peek().clone();
        self.next += 1;
        let literal = match word {
            Word::Sign("(") => {
                let inner = self.expression()?;
                self.need(")")?;
                return Ok(inner);
            }
            Word::Sign("[") => return self.list_literal(at, false),
            Word::Sign("[?") => return self.list_literal(at, true),
            Word::Sign("{") => return self.map_literal(at),
            Word::Sign(".") => {
                let name = self.field()?;
                return node(at, Node::Name(name));
            }
            Word::Name(name) => return self.named(at, name),
            Word::Int(amount) => match i64::try_from(amount) {
                Ok(number) => Node::Int(number),
                Err(_) => return Err(Wrong::new(at, "invalid int literal")),
            },
            Word::Uint(number) => Node::Uint(number),
            Word::Double(number) => Node::Double(number),
            Word::Text(text) => Node::Text(text),
            Word::Bytes(bytes) => Node::Bytes(bytes),
            Word::Sign(_) | Word::Quoted(_) | Word::End => {
                self.next -= 1;
                return self.unexpected("expecting an expression");
            }
        };
        node(at, literal)
    }

    fn named(&mut self, at: usize, name: String) -> Parsed {
        match name.as_str() {
            "true" => return node(at, Node::Bool(true)),
            "false" => return node(at, Node::Bool(false)),
            "null" => return node(at, Node::Null),
            _ if name == "in" || RESERVED.contains(&name.as_str()) => {
                return Err(Wrong::new(at, format!("reserved identifier: {name}")));
            }
            _ => {}
        }
        match self.take("(") {
            Some(at) => {
                let args = self.list(")")?;
                self.call(at, None, name, args)
            }
            None => node(at, Node::Name(name)),
        }
    }

    fn list_literal(&mut self, at: usize, first_optional: bool) -> Parsed {
        let mut items = Vec::new();
        let mut optional = first_optional;
        while optional || self.take("]").is_none() {
            let is_optional = std::mem::take(&mut optional) || self.take("?").is_some();
            items.push((self.expression()?, is_optional));
            if self.take(",").is_none() {
                self.need("]")?;
                break;
            }
        }
        node(at, Node::List(items))
    }

    fn map_literal(&mut self, at: usize) -> Parsed {
        let mut entries = Vec::new();
        while self.take("}").is_none() {
            let optional = self.take("?").is_some();
            let key = self.expression()?;
            self.need(":")?;
            entries.push((key, self.expression()?, optional));
            if self.take(",").is_none() {
                self.need("}")?;
                break;
            }
        }
        node(at, Node::Map(entries))
    }

    /// A call, a macro, or a function of a namespace.
    fn call(&mut self, at: usize, of: Option<Expr>, name: String, mut args: Vec<Expr>) -> Parsed {
        let Some(of) = of else {
            if name == "has" && args.len() == 1 {
                return match args.remove(0).node {
                    Node::Select { of, field, optional: false } => {
                        node(at, Node::Has { of, field })
                    }
                    _ => Err(Wrong::new(at, "invalid argument to has() macro")),
                };
            }
            return node(at, Node::Call(Call { of: None, name, args, pattern: None }));
        };
        if let Node::Name(space) = &of.node {
            let whole = format!("{space}.{name}");
            if whole == "cel.bind" && args.len() == 3 {
                let (body, value) = (args.pop(), args.pop());
                let (Some(body), Some(value)) = (body, value) else {
                    return Err(Wrong::new(at, "cel.bind takes three arguments"));
                };
                let name = plain_name(&args[0])?;
                let (value, body) = (Box::new(value), Box::new(body));
                return node(at, Node::Bind { name, value, body });
            }
            if library::is_global(&whole) {
                return node(at, Node::Call(Call { of: None, name: whole, args, pattern: None }));
            }
        }
        let flat = name == "optFlatMap";
        if (flat || name == "optMap") && args.len() == 2 {
            let name = plain_name(&args[0])?;
            let body = Box::new(args.remove(1));
            return node(at, Node::OptionalMap { of: Box::new(of), name, body, flat });
        }
        if let Some((kind, names)) = loop_of(&name, args.len()) {
            return self.loop_over(at, of, kind, names, args);
        }
        node(at, Node::Call(Call { of: Some(Box::new(of)), name, args, pattern: None }))
    }

    fn loop_over(
        &mut self,
        at: usize,
        over: Expr,
        kind: LoopKind,
        names: usize,
        mut args: Vec<Expr>,
    ) -> Parsed {
        let filtered = args.len() == names + 2;
        let Some(body) = args.pop() else {
            return Err(Wrong::new(at, "a macro needs an expression"));
        };
        let filter = if filtered { args.pop() } else { None };
        let name = plain_name(&args[0])?;
        let second = args.get(1).map(plain_name).transpose()?;
        if second.as_ref() == Some(&name) {
            return Err(Wrong::new(args[1].at, "overlapping declaration name"));
        }
        let of = Loop { kind, over, name, second, filter, body };
        node(at, Node::Loop(Box::new(of)))
    }
}

/// Which macro a call is, and how many names it gives to what it runs over.
fn loop_of(name: &str, count: usize) -> Option<(LoopKind, usize)> {
    Some(match (name, count) {
        ("all", 2) => (LoopKind::All, 1),
        ("all", 3) => (LoopKind::All, 2),
        ("exists", 2) => (LoopKind::Exists, 1),
        ("exists", 3) => (LoopKind::Exists, 2),
        ("exists_one" | "existsOne", 2) => (LoopKind::ExistsOne, 1),
        ("exists_one" | "existsOne", 3) => (LoopKind::ExistsOne, 2),
        ("filter", 2) => (LoopKind::Filter, 1),
        ("map", 2 | 3) => (LoopKind::Map, 1),
        ("transformList", 3 | 4) => (LoopKind::Map, 2),
        ("transformMap", 3 | 4) => (LoopKind::MapValues, 2),
        _ => return None,
    })
}

fn plain_name(expr: &Expr) -> Result<String, Wrong> {
    match &expr.node {
        Node::Name(name) => Ok(name.clone()),
        _ => Err(Wrong::new(expr.at, "argument must be a simple name")),
    }
}
