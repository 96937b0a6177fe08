//! Tokens by their bytes, as a tree that a recognizer walks to find those that it takes.

use llguidance::toktrie::{Recognizer, SimpleVob};

const NO_TOKEN: u32 = u32::MAX;

/// In the order of a walk: what goes on from a node stands behind it.
pub struct TokenTree {
    nodes: Vec<Node>,
}

#[derive(Clone, Copy)]
struct Node {
    token: u32,
    /// The first node that does not go on from it.
    end: u32,
    /// Of the bytes up to it.
    depth: u16,
    byte: u8,
}

impl TokenTree {
    /// Of texts in ascending order, none of them empty or longer than 2^16 bytes.
    pub fn new<'a>(sorted: impl Iterator<Item = (u32, &'a [u8])>) -> Self {
        let mut nodes: Vec<Node> = Vec::new();
        let mut path: Vec<usize> = Vec::new(); // the last text's nodes
        let mut last: &[u8] = &[];
        for (token, text) in sorted {
            let same = last.iter().zip(text).take_while(|(a, b)| a == b).count();
            let kept = same.min(text.len() - 1); // a text that comes again has a last node of its own
            end_all(&mut nodes, path.drain(kept..));
            for (i, byte) in text.iter().enumerate().skip(kept) {
                path.push(nodes.len());
                nodes.push(Node { token: NO_TOKEN, end: 0, depth: i as u16 + 1, byte: *byte });
            }
            if let Some(node) = nodes.last_mut() {
                node.token = token;
            }
            last = text;
        }
        end_all(&mut nodes, path.into_iter());
        nodes.shrink_to_fit();
        TokenTree { nodes }
    }

    /// Adds those of its tokens that may come.
    pub fn allow(&self, recognizer: &mut impl Recognizer, mask: &mut SimpleVob) {
        recognizer.trie_started("tree");
        let mut pushed = 0;
        let mut next = 0;
        while let Some(node) = self.nodes.get(next) {
            let before = node.depth as usize - 1;
            recognizer.pop_bytes(pushed - before);
            if recognizer.try_push_byte(node.byte) {
                if node.token != NO_TOKEN {
                    mask.allow_token(node.token);
                }
                pushed = before + 1;
                next += 1;
            } else {
                pushed = before;
                next = node.end as usize;
            }
        }
        recognizer.pop_bytes(pushed);
        recognizer.trie_finished();
    }

    pub fn bytes(&self) -> usize {
        self.nodes.len() * size_of::<Node>()
    }
}

fn end_all(nodes: &mut [Node], ended: impl Iterator<Item = usize>) {
    let end = nodes.len() as u32;
    ended.for_each(|node| nodes[node].end = end);
}
