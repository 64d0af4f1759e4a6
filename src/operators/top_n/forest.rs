//! Ordered sets of rows for all partitions at once: search trees over row ids, in three flat vectors.
//!
//! Treaps: a partition is the id of its root, a node is a row id, priorities are a hash of the id, and every node
//! knows how many nodes hang below it, so that ranks cost the depth of the tree. A partition of few rows costs 12 bytes
//! a row and nothing beside it; one of millions stays logarithmic.

/// No node.
pub(super) const NIL: u32 = u32::MAX;

/// The nodes of all trees.
#[derive(Debug, Default)]
pub(super) struct Forest {
    left: Vec<u32>,
    right: Vec<u32>,
    size: Vec<u32>,
}

#[inline]
fn priority(id: u32) -> u32 {
    let mixed = (id ^ (id >> 15)).wrapping_mul(0x2c1b_3c6d);
    (mixed ^ (mixed >> 12)).wrapping_mul(0x297a_2d39)
}

impl Forest {
    /// Number of nodes of a tree.
    #[inline]
    pub(super) fn len(&self, root: u32) -> u32 {
        if root == NIL { 0 } else { self.size[root as usize] }
    }

    /// Puts `id` into a tree; gives its root.
    pub(super) fn insert(&mut self, root: u32, id: u32, is_before: &impl Fn(u32, u32) -> bool) -> u32 {
        let at = id as usize;
        if at >= self.size.len() {
            self.left.resize(at + 1, NIL);
            self.right.resize(at + 1, NIL);
            self.size.resize(at + 1, 0);
        }
        (self.left[at], self.right[at], self.size[at]) = (NIL, NIL, 1);
        self.insert_below(root, id, is_before)
    }

    fn insert_below(&mut self, root: u32, id: u32, is_before: &impl Fn(u32, u32) -> bool) -> u32 {
        if root == NIL {
            return id;
        }
        let at = root as usize;
        if priority(id) > priority(root) {
            let (left, right) = self.split(root, id, is_before);
            (self.left[id as usize], self.right[id as usize]) = (left, right);
            self.count(id);
            return id;
        }
        if is_before(id, root) {
            self.left[at] = self.insert_below(self.left[at], id, is_before);
        } else {
            self.right[at] = self.insert_below(self.right[at], id, is_before);
        }
        self.size[at] += 1;
        root
    }

    /// The nodes before and after `id`.
    fn split(&mut self, root: u32, id: u32, is_before: &impl Fn(u32, u32) -> bool) -> (u32, u32) {
        if root == NIL {
            return (NIL, NIL);
        }
        let at = root as usize;
        if is_before(id, root) {
            let (left, right) = self.split(self.left[at], id, is_before);
            self.left[at] = right;
            self.count(root);
            (left, root)
        } else {
            let (left, right) = self.split(self.right[at], id, is_before);
            self.right[at] = left;
            self.count(root);
            (root, right)
        }
    }

    #[inline]
    fn count(&mut self, id: u32) {
        let at = id as usize;
        self.size[at] = 1 + self.len(self.left[at]) + self.len(self.right[at]);
    }

    /// Takes `id`, which must be in the tree, out of it; gives the root.
    pub(super) fn remove(&mut self, root: u32, id: u32, is_before: &impl Fn(u32, u32) -> bool) -> u32 {
        if root == NIL {
            return NIL;
        }
        let at = root as usize;
        if root == id {
            return self.merge(self.left[at], self.right[at]);
        }
        if is_before(id, root) {
            self.left[at] = self.remove(self.left[at], id, is_before);
        } else {
            self.right[at] = self.remove(self.right[at], id, is_before);
        }
        self.count(root);
        root
    }

    fn merge(&mut self, left: u32, right: u32) -> u32 {
        if left == NIL {
            return right;
        }
        if right == NIL {
            return left;
        }
        if priority(left) > priority(right) {
            self.right[left as usize] = self.merge(self.right[left as usize], right);
            self.count(left);
            left
        } else {
            self.left[right as usize] = self.merge(left, self.left[right as usize]);
            self.count(right);
            right
        }
    }

    /// How many nodes of the tree stand before `id`.
    pub(super) fn rank(&self, root: u32, id: u32, is_before: &impl Fn(u32, u32) -> bool) -> u32 {
        let (mut node, mut before) = (root, 0);
        while node != NIL {
            let at = node as usize;
            if node == id {
                return before + self.len(self.left[at]);
            }
            if is_before(id, node) {
                node = self.left[at];
            } else {
                before += self.len(self.left[at]) + 1;
                node = self.right[at];
            }
        }
        before
    }

    /// The node with `k` nodes before it, [`NIL`] beyond the end.
    pub(super) fn nth(&self, root: u32, mut k: u32) -> u32 {
        let mut node = root;
        while node != NIL {
            let before = self.len(self.left[node as usize]);
            match k.cmp(&before) {
                std::cmp::Ordering::Less => node = self.left[node as usize],
                std::cmp::Ordering::Equal => return node,
                std::cmp::Ordering::Greater => {
                    k -= before + 1;
                    node = self.right[node as usize];
                }
            }
        }
        NIL
    }

    /// The last node.
    pub(super) fn last(&self, root: u32) -> u32 {
        let mut node = root;
        while node != NIL && self.right[node as usize] != NIL {
            node = self.right[node as usize];
        }
        node
    }

    /// Appends the nodes of places `from..to` in order.
    pub(super) fn collect(&self, root: u32, from: u32, to: u32, into: &mut Vec<u32>) {
        if root == NIL || from >= to {
            return;
        }
        let at = root as usize;
        let before = self.len(self.left[at]);
        if from < before {
            self.collect(self.left[at], from, to.min(before), into);
        }
        if from <= before && before < to {
            into.push(root);
        }
        if to > before + 1 {
            self.collect(self.right[at], from.saturating_sub(before + 1), to - before - 1, into);
        }
    }

    /// Bytes held.
    pub(super) fn size(&self) -> usize {
        (self.left.capacity() + self.right.capacity() + self.size.capacity()) * 4
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_a_sorted_vector() {
        let key = |id: u32| id.wrapping_mul(2_654_435_761) % 97;
        let is_before = |a: u32, b: u32| (key(a), a) < (key(b), b);
        let mut forest = Forest::default();
        let (mut root, mut model) = (NIL, Vec::new());
        for step in 0..2_000_u32 {
            let id = step.wrapping_mul(40_503) % 300;
            if let Some(at) = model.iter().position(|m| *m == id) {
                root = forest.remove(root, id, &is_before);
                model.remove(at);
            } else {
                root = forest.insert(root, id, &is_before);
                model.push(id);
                model.sort_by_key(|id| (key(*id), *id));
                let at = model.iter().position(|m| *m == id);
                assert_eq!(Some(forest.rank(root, id, &is_before) as usize), at);
            }
            assert_eq!(forest.len(root) as usize, model.len());
            assert_eq!(forest.last(root), model.last().copied().unwrap_or(NIL));
            let (from, to) = (step as usize % 7, step as usize % 50);
            let mut some = Vec::new();
            forest.collect(root, from as u32, to as u32, &mut some);
            let expected: Vec<u32> = model.iter().copied().take(to).skip(from).collect();
            assert_eq!(some, expected);
            assert_eq!(forest.nth(root, to as u32), model.get(to).copied().unwrap_or(NIL));
        }
    }
}
