//! Ids for columns and fields that a table gets.

use std::sync::Arc;

use iceberg::spec::{ListType, MapType, NestedField, NestedFieldRef, StructType, Type};

/// Gives ids that no column of the table ever had.
#[derive(Debug)]
pub(super) struct NewIds(i32);

impl NewIds {
    /// Behind the last one that was given.
    pub fn after(last: i32) -> Self {
        NewIds(last)
    }

    /// The next one.
    pub fn next(&mut self) -> i32 {
        self.0 += 1;
        self.0
    }

    /// A new type with ids of its own, outer ones first.
    pub fn numbered(&mut self, ty: &Type) -> Type {
        let mut number = |f: &NestedFieldRef| (self.next(), Arc::clone(f));
        match ty {
            Type::Primitive(_) => ty.clone(),
            Type::Struct(s) => {
                let numbers: Vec<_> = s.fields().iter().map(&mut number).collect();
                Type::Struct(StructType::new(
                    numbers.into_iter().map(|(id, f)| self.renumbered(id, &f)).collect(),
                ))
            }
            Type::List(l) => {
                let (id, element) = number(&l.element_field);
                Type::List(ListType::new(self.renumbered(id, &element)))
            }
            Type::Map(m) => {
                let ((key_id, key), (value_id, value)) = (number(&m.key_field), number(&m.value_field));
                Type::Map(MapType::new(self.renumbered(key_id, &key), self.renumbered(value_id, &value)))
            }
        }
    }

    fn renumbered(&mut self, id: i32, field: &NestedField) -> NestedFieldRef {
        let ty = self.numbered(&field.field_type);
        Arc::new(NestedField { id, field_type: Box::new(ty), ..field.clone() })
    }
}
