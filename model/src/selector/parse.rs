//! Tokens to tree (calico-datamodel 3.1), by recursive descent with bounded depth.

use std::collections::BTreeSet;

use super::expr::Expr;
use super::token::{Kind, Mistake, Operator, Token, tokens};

/// Deepest nesting of parentheses, in the text and in its canonical form. Selectors come from users and from other
/// programs; the bound keeps recursion over them off the end of the stack.
pub(super) const MAX_DEPTH: usize = 128;

/// Reads a selector; blank text means `all()`.
pub(super) fn parse(text: &str) -> Result<Expr, Mistake> {
    let tokens = tokens(text)?;
    if matches!(tokens.as_slice(), [Token { kind: Kind::End, .. }]) {
        return Ok(Expr::All);
    }
    let mut parser = Parser { tokens, at: 0, depth: 0 };
    let expr = parser.or()?;
    if parser.peek() != Kind::End {
        return Err(parser.mistake("expected '&&', '||' or the end"));
    }
    if expr.group_depth() > MAX_DEPTH {
        return Err(Mistake { offset: 0, reason: too_deep() });
    }
    Ok(expr)
}

fn too_deep() -> String {
    format!("nested deeper than {MAX_DEPTH} levels")
}

struct Parser<'a> {
    tokens: Vec<Token<'a>>,
    at: usize,
    depth: usize,
}

impl<'a> Parser<'a> {
    fn or(&mut self) -> Result<Expr, Mistake> {
        let mut nodes = vec![self.and()?];
        while self.take(Kind::Or) {
            nodes.push(self.and()?);
        }
        Ok(group(nodes, Expr::Or))
    }

    fn and(&mut self) -> Result<Expr, Mistake> {
        let mut nodes = vec![self.operation()?];
        while self.take(Kind::And) {
            nodes.push(self.operation()?);
        }
        Ok(group(nodes, Expr::And))
    }

    fn operation(&mut self) -> Result<Expr, Mistake> {
        let mut negate = false;
        while self.take(Kind::Not) {
            negate = !negate;
        }
        let expr = self.primary()?;
        Ok(if negate { expr.negated() } else { expr })
    }

    fn primary(&mut self) -> Result<Expr, Mistake> {
        let expr = match self.peek() {
            Kind::Open => return self.parenthesised(),
            Kind::All => Expr::All,
            Kind::Global => Expr::Global,
            Kind::Has(label) => Expr::Has(label.to_owned()),
            Kind::Label(label) => {
                self.advance();
                return self.comparison(label.to_owned());
            }
            Kind::Text(_)
            | Kind::Close
            | Kind::OpenSet
            | Kind::CloseSet
            | Kind::Comma
            | Kind::And
            | Kind::Or
            | Kind::Not
            | Kind::Operator(_)
            | Kind::End => {
                return Err(self.mistake("expected a label, has(), all(), global(), '!' or '('"));
            }
        };
        self.advance();
        Ok(expr)
    }

    fn parenthesised(&mut self) -> Result<Expr, Mistake> {
        if self.depth == MAX_DEPTH {
            return Err(self.mistake(too_deep()));
        }
        self.advance();
        self.depth += 1;
        let expr = self.or()?;
        self.depth -= 1;
        if !self.take(Kind::Close) {
            return Err(self.mistake("expected '&&', '||' or ')'"));
        }
        Ok(expr)
    }

    fn comparison(&mut self, label: String) -> Result<Expr, Mistake> {
        let Kind::Operator(operator) = self.peek() else {
            return Err(self.mistake("expected an operator after the label"));
        };
        self.advance();
        Ok(match operator {
            Operator::Equal => Expr::Equal(label, self.text()?),
            Operator::NotEqual => Expr::NotEqual(label, self.text()?),
            Operator::Contains => Expr::Contains(label, self.text()?),
            Operator::StartsWith => Expr::StartsWith(label, self.text()?),
            Operator::EndsWith => Expr::EndsWith(label, self.text()?),
            Operator::In => Expr::In(label, self.set()?),
            Operator::NotIn => Expr::NotIn(label, self.set()?),
        })
    }

    fn text(&mut self) -> Result<String, Mistake> {
        let Kind::Text(value) = self.peek() else {
            return Err(self.mistake("expected a string in quotes"));
        };
        self.advance();
        Ok(value.to_owned())
    }

    fn set(&mut self) -> Result<BTreeSet<String>, Mistake> {
        if !self.take(Kind::OpenSet) {
            return Err(self.mistake("expected '{' and a list of strings"));
        }
        let mut values = BTreeSet::new();
        while let Kind::Text(value) = self.peek() {
            self.advance();
            values.insert(value.to_owned());
            if !self.take(Kind::Comma) {
                break;
            }
        }
        if !self.take(Kind::CloseSet) {
            return Err(self.mistake("expected a string, ',' or '}' in the set"));
        }
        Ok(values)
    }

    fn peek(&self) -> Kind<'a> {
        self.tokens.get(self.at).map_or(Kind::End, |t| t.kind)
    }

    fn advance(&mut self) {
        self.at += 1;
    }

    fn take(&mut self, kind: Kind<'_>) -> bool {
        let found = self.peek() == kind;
        if found {
            self.advance();
        }
        found
    }

    fn mistake(&self, reason: impl Into<String>) -> Mistake {
        let offset = self.tokens.get(self.at).or(self.tokens.last()).map_or(0, |t| t.offset);
        Mistake { offset, reason: reason.into() }
    }
}

fn group(mut nodes: Vec<Expr>, kind: fn(Vec<Expr>) -> Expr) -> Expr {
    match nodes.len() {
        1 => nodes.remove(0),
        _ => kind(nodes),
    }
}
