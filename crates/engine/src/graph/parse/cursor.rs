use super::super::DEPTH_MAX;
use super::super::error::GraphError;
use super::super::token::Token;
use super::Parser;

impl Parser {
    pub(super) fn peek(&self, ahead: usize) -> &Token {
        let last = self.tokens.len() - 1;
        &self.tokens[(self.place + ahead).min(last)].0
    }

    pub(super) fn column(&self) -> usize {
        self.tokens[self.place].1
    }

    /// Consumes the next token if it is `symbol`, and returns whether it was.
    pub(super) fn take(&mut self, symbol: char) -> bool {
        let is_next = *self.peek(0) == Token::Symbol(symbol);
        self.place += usize::from(is_next);
        is_next
    }

    pub(super) fn error(&self, detail: impl Into<String>) -> GraphError {
        GraphError::at(self.column(), detail)
    }

    /// Runs `inner` one nesting level deeper.
    pub(super) fn nested(
        &mut self,
        column: usize,
        inner: fn(&mut Self) -> Result<usize, GraphError>,
    ) -> Result<usize, GraphError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(GraphError::at(column, format!("the expression is nested deeper than {DEPTH_MAX}")));
        }
        let id = inner(self)?;
        self.depth -= 1;
        Ok(id)
    }

    /// Consumes the `)` that matches the `(` at column `opened`.
    pub(super) fn close(&mut self, opened: usize) -> Result<(), GraphError> {
        match self.peek(0) {
            Token::Symbol(')') => {
                self.place += 1;
                Ok(())
            }
            found @ (Token::End | Token::Symbol(',' | ';' | '=')) => {
                Err(self.error(format!("expected ) for the ( opened at column {opened}, found {found}")))
            }
            _ => Err(self.after_operand()),
        }
    }
}
