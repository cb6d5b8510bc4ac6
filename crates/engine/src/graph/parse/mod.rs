mod cursor;
mod errors;

use std::collections::BTreeMap;

use super::error::{GraphError, shown};
use super::node::{Node, Op};
use super::token::{Token, tokens};

/// The optional keyword before a binding.
const LET: &str = "let";

/// Parses `expression` into nodes and the id of the output. Only inputs and constants have values yet. On
/// failure, returns every error of the inputs, then the first one of the expression.
pub(super) fn parse(
    expression: &str,
    inputs: &BTreeMap<String, f64>,
) -> Result<(Vec<Node>, usize), Vec<GraphError>> {
    let mut errors = errors::wrong_inputs(inputs);
    match read(expression, inputs) {
        Ok(parsed) if errors.is_empty() => return Ok(parsed),
        Ok(_) => {}
        Err(error) => errors.push(error),
    }
    Err(errors)
}

/// [`parse`], but ignores invalid inputs.
fn read(expression: &str, inputs: &BTreeMap<String, f64>) -> Result<(Vec<Node>, usize), GraphError> {
    let mut parser = Parser::new(&errors::characters(expression)?);
    for (name, &value) in inputs.iter().filter(|(name, _)| errors::can_be_bound(name)) {
        let id = parser.push(Op::Input, vec![], 0, value);
        parser.bind(name, id, 0);
    }
    let output = parser.parts()?;
    Ok((parser.nodes, output))
}

struct Parser {
    tokens: Vec<(Token, usize)>,
    place: usize,
    depth: usize,
    nodes: Vec<Node>,
    /// Id and column of every name bound so far. Inputs have column 0.
    names: BTreeMap<String, (usize, usize)>,
    /// The name whose binding is being parsed.
    binding: Option<String>,
}

impl Parser {
    fn new(characters: &[char]) -> Self {
        Self {
            tokens: tokens(characters),
            place: 0,
            depth: 0,
            nodes: Vec::new(),
            names: BTreeMap::new(),
            binding: None,
        }
    }

    /// `part { ";" part } [ ";" ]`
    fn parts(&mut self) -> Result<usize, GraphError> {
        if *self.peek(0) == Token::End {
            return Err(self.error("the expression is empty"));
        }
        loop {
            let start = self.column();
            let (id, is_named) = self.part()?;
            let more = self.take(';');
            match self.peek(0) {
                Token::End => return Ok(id),
                _ if more && is_named => {}
                _ if more => {
                    let detail = "only the last part may be without a name: write name = … here";
                    return Err(GraphError::at(start, detail));
                }
                _ => return Err(self.after_operand()),
            }
        }
    }

    /// `[ "let" ] name "=" sum | sum`
    fn part(&mut self) -> Result<(usize, bool), GraphError> {
        let has_let = matches!(self.peek(0), Token::Name(word) if word == LET);
        if has_let {
            self.place += 1;
        }
        let column = self.column();
        let name = match self.peek(0) {
            Token::Name(name) if *self.peek(1) == Token::Symbol('=') => name.clone(),
            Token::Name(name) if has_let => {
                let detail = format!("let {} needs = and a value", shown(name));
                return Err(GraphError::at(column, detail));
            }
            found if has_let => {
                return Err(GraphError::at(column, format!("let needs a name, found {found}")));
            }
            _ => return Ok((self.sum()?, false)),
        };
        self.check_binding(&name, column)?;
        self.place += 2;
        self.binding = Some(name.clone());
        let mut id = self.sum()?;
        self.binding = None;
        if self.nodes[id].name.is_some() {
            id = self.push(Op::Identity, vec![id], column, 0.0);
        }
        self.bind(&name, id, column);
        Ok((id, true))
    }

    /// `product { ("+" | "-") product }`
    fn sum(&mut self) -> Result<usize, GraphError> {
        let mut left = self.product()?;
        loop {
            let column = self.column();
            let op = match self.peek(0) {
                Token::Symbol('+') => Op::Add,
                Token::Symbol('-') => Op::Subtract,
                _ => return Ok(left),
            };
            self.place += 1;
            let right = self.product()?;
            left = self.push(op, vec![left, right], column, 0.0);
        }
    }

    /// `unary { ("*" | "/") unary }`
    fn product(&mut self) -> Result<usize, GraphError> {
        let mut left = self.unary()?;
        loop {
            let column = self.column();
            let op = match self.peek(0) {
                Token::Symbol('*') => Op::Multiply,
                Token::Symbol('/') => Op::Divide,
                _ => return Ok(left),
            };
            self.place += 1;
            let right = self.unary()?;
            left = self.push(op, vec![left, right], column, 0.0);
        }
    }

    /// `"-" unary | power`
    fn unary(&mut self) -> Result<usize, GraphError> {
        let column = self.column();
        if !self.take('-') {
            return self.power();
        }
        let operand = self.nested(column, Self::unary)?;
        Ok(self.push(Op::Negate, vec![operand], column, 0.0))
    }

    /// `atom [ "^" unary ]`
    fn power(&mut self) -> Result<usize, GraphError> {
        let base = self.atom()?;
        let column = self.column();
        if !self.take('^') {
            return Ok(base);
        }
        let exponent = self.nested(column, Self::unary)?;
        Ok(self.push(Op::Power, vec![base, exponent], column, 0.0))
    }

    /// `number | name | function "(" sum { "," sum } ")" | "(" sum ")"`
    fn atom(&mut self) -> Result<usize, GraphError> {
        let column = self.column();
        match self.peek(0).clone() {
            Token::Number(_, value) => {
                self.place += 1;
                Ok(self.push(Op::Constant, vec![], column, value))
            }
            Token::BadNumber(text, why) => Err(self.error(format!("{} {why}", shown(&text)))),
            Token::Symbol('(') => {
                self.place += 1;
                let id = self.nested(column, Self::sum)?;
                self.close(column)?;
                Ok(id)
            }
            Token::Name(name) if *self.peek(1) == Token::Symbol('(') && !self.names.contains_key(&name) => {
                self.call(&name, column)
            }
            Token::Name(name) => {
                let id = self.id_of(&name).ok_or_else(|| self.unknown(&name))?;
                self.place += 1;
                Ok(id)
            }
            Token::Symbol(')') => Err(self.error("expected a number, a name or ( before this )")),
            Token::Unknown(character) => Err(self.error(format!("unexpected {character:?}"))),
            found => Err(self.error(format!("expected a number, a name or (, found {found}"))),
        }
    }

    /// Parses a function call.
    fn call(&mut self, name: &str, column: usize) -> Result<usize, GraphError> {
        let Some(op) = Op::function(name) else {
            return Err(self.unknown_function(name));
        };
        let opened = column + name.chars().count();
        self.place += 2;
        let mut arguments = Vec::new();
        if *self.peek(0) != Token::Symbol(')') {
            arguments.push(self.nested(column, Self::sum)?);
            while self.take(',') {
                arguments.push(self.nested(column, Self::sum)?);
            }
        }
        self.close(opened)?;
        let found = arguments.len();
        let wanted = match op.takes_many() {
            true if found < 2 => "2 or more arguments",
            false if found != 1 => "1 argument",
            _ => return Ok(self.push(op, arguments, column, 0.0)),
        };
        Err(GraphError::at(column, format!("{name} takes {wanted}, not {found}")))
    }

    fn push(&mut self, op: Op, inputs: Vec<usize>, column: usize, value: f64) -> usize {
        let id = self.nodes.len();
        self.nodes.push(Node { id, op, name: None, inputs, value, gradient: None, local: vec![], column });
        id
    }

    fn bind(&mut self, name: &str, id: usize, column: usize) {
        self.nodes[id].name = Some(name.to_owned());
        self.names.insert(name.to_owned(), (id, column));
    }

    fn id_of(&self, name: &str) -> Option<usize> {
        self.names.get(name).map(|&(id, _)| id)
    }
}
