//! Two serializers: [`Top`] takes the event itself, [`Value`] each value in it and says where its text stands.

use serde::ser::{Error as _, Impossible, Serialize, SerializeSeq, SerializeStruct, Serializer};

use super::{ContextText, EncodeError, Encoder, Field, Place};
use crate::json_text::{push_signed, push_string, push_unsigned};

/// These fields come before the context; all others after it.
const BEFORE_CONTEXT: [&str; 3] = ["event", "flow", "revision"];

fn refused<T>(what: &str) -> Result<T, EncodeError> {
    Err(EncodeError::custom(format_args!("no line holds {what}")))
}

/// Takes an event: a struct with its kind inline.
pub(super) struct Top<'e, 'a> {
    pub(super) encoder: &'e mut Encoder<'a>,
    pub(super) context: &'e ContextText,
}

/// The event's fields.
pub(super) struct TopFields<'e, 'a> {
    encoder: &'e mut Encoder<'a>,
    context: Option<&'e ContextText>,
}

impl SerializeStruct for TopFields<'_, '_> {
    type Ok = ();
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), EncodeError> {
        if !BEFORE_CONTEXT.contains(&name)
            && let Some(context) = self.context.take()
        {
            self.encoder.context(context);
        }
        self.encoder.add(b',', "", name, value)
    }

    fn end(self) -> Result<(), EncodeError> {
        if let Some(context) = self.context {
            self.encoder.context(context);
        }
        Ok(())
    }
}

/// Takes one value in an event.
pub(super) struct Value<'e, 'a> {
    pub(super) encoder: &'e mut Encoder<'a>,
    /// The name of the field that holds it.
    pub(super) name: &'static str,
}

/// An object in an event.
pub(super) struct Object<'e, 'a> {
    encoder: &'e mut Encoder<'a>,
    name: &'static str,
    first: usize,
    mark: u8,
}

impl SerializeStruct for Object<'_, '_> {
    type Ok = Place;
    type Error = EncodeError;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), EncodeError> {
        let mark = std::mem::replace(&mut self.mark, b',');
        self.encoder.add(mark, self.name, name, value)
    }

    fn end(self) -> Result<Place, EncodeError> {
        if self.mark == b'{' {
            self.encoder.line.push(self.mark);
        }
        self.encoder.line.push(b'}');
        Ok(self.encoder.close(self.first))
    }
}

/// An array in an event.
pub(super) struct Array<'e, 'a> {
    encoder: &'e mut Encoder<'a>,
    first: usize,
    start: usize,
    mark: u8,
}

impl SerializeSeq for Array<'_, '_> {
    type Ok = Place;
    type Error = EncodeError;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), EncodeError> {
        self.encoder.line.push(self.mark);
        self.mark = b',';
        // What stands in an array is never erasable: no path names it.
        let place = value.serialize(Value { encoder: self.encoder, name: "[]" })?;
        self.encoder.scratch.fields.push(Field::new("", place));
        Ok(())
    }

    fn end(self) -> Result<Place, EncodeError> {
        if self.mark == b'[' {
            self.encoder.line.push(self.mark);
        }
        self.encoder.line.push(b']');
        Ok(self.encoder.close_array(self.first, self.start))
    }
}

impl<'e, 'a> Serializer for Value<'e, 'a> {
    type Ok = Place;
    type Error = EncodeError;
    type SerializeSeq = Array<'e, 'a>;
    type SerializeStruct = Object<'e, 'a>;
    type SerializeTuple = Impossible<Place, EncodeError>;
    type SerializeTupleStruct = Impossible<Place, EncodeError>;
    type SerializeTupleVariant = Impossible<Place, EncodeError>;
    type SerializeMap = Impossible<Place, EncodeError>;
    type SerializeStructVariant = Impossible<Place, EncodeError>;

    fn serialize_bool(self, v: bool) -> Result<Place, EncodeError> {
        Ok(self.encoder.scalar(|line| line.extend_from_slice(if v { b"true" } else { b"false" })))
    }
    fn serialize_i8(self, v: i8) -> Result<Place, EncodeError> {
        self.serialize_i64(v.into())
    }
    fn serialize_i16(self, v: i16) -> Result<Place, EncodeError> {
        self.serialize_i64(v.into())
    }
    fn serialize_i32(self, v: i32) -> Result<Place, EncodeError> {
        self.serialize_i64(v.into())
    }
    fn serialize_i64(self, v: i64) -> Result<Place, EncodeError> {
        Ok(self.encoder.scalar(|line| push_signed(line, v)))
    }
    fn serialize_u8(self, v: u8) -> Result<Place, EncodeError> {
        self.serialize_u64(v.into())
    }
    fn serialize_u16(self, v: u16) -> Result<Place, EncodeError> {
        self.serialize_u64(v.into())
    }
    fn serialize_u32(self, v: u32) -> Result<Place, EncodeError> {
        self.serialize_u64(v.into())
    }
    fn serialize_u64(self, v: u64) -> Result<Place, EncodeError> {
        Ok(self.encoder.scalar(|line| push_unsigned(line, v)))
    }
    fn serialize_f32(self, _: f32) -> Result<Place, EncodeError> {
        refused("a float")
    }
    fn serialize_f64(self, _: f64) -> Result<Place, EncodeError> {
        refused("a float")
    }
    fn serialize_char(self, v: char) -> Result<Place, EncodeError> {
        self.serialize_str(v.encode_utf8(&mut [0; 4]))
    }
    fn serialize_str(self, v: &str) -> Result<Place, EncodeError> {
        Ok(self.encoder.scalar(|line| push_string(line, v)))
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<Place, EncodeError> {
        refused("bytes")
    }
    fn serialize_none(self) -> Result<Place, EncodeError> {
        Ok(self.encoder.scalar(|line| line.extend_from_slice(b"null")))
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Place, EncodeError> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Place, EncodeError> {
        self.serialize_none()
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Place, EncodeError> {
        self.serialize_none()
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Place, EncodeError> {
        self.serialize_str(variant)
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, v: &T) -> Result<Place, EncodeError> {
        v.serialize(self)
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Place, EncodeError> {
        refused("a variant with a value")
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Array<'e, 'a>, EncodeError> {
        let (first, start) = (self.encoder.scratch.fields.len(), self.encoder.line.len());
        Ok(Array { encoder: self.encoder, first, start, mark: b'[' })
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, EncodeError> {
        refused("a tuple")
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTuple, EncodeError> {
        refused("a tuple struct")
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTuple, EncodeError> {
        refused("a tuple variant")
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, EncodeError> {
        refused("a map")
    }
    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Object<'e, 'a>, EncodeError> {
        let first = self.encoder.scratch.fields.len();
        Ok(Object { encoder: self.encoder, name: self.name, first, mark: b'{' })
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, EncodeError> {
        refused("a struct variant")
    }
}

impl<'e, 'a> Serializer for Top<'e, 'a> {
    type Ok = ();
    type Error = EncodeError;
    type SerializeStruct = TopFields<'e, 'a>;
    type SerializeSeq = Impossible<(), EncodeError>;
    type SerializeTuple = Impossible<(), EncodeError>;
    type SerializeTupleStruct = Impossible<(), EncodeError>;
    type SerializeTupleVariant = Impossible<(), EncodeError>;
    type SerializeMap = Impossible<(), EncodeError>;
    type SerializeStructVariant = Impossible<(), EncodeError>;

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<TopFields<'e, 'a>, EncodeError> {
        Ok(TopFields { encoder: self.encoder, context: Some(self.context) })
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, v: &T) -> Result<(), EncodeError> {
        v.serialize(self)
    }
    fn serialize_bool(self, _: bool) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_i8(self, _: i8) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_i16(self, _: i16) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_i32(self, _: i32) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_i64(self, _: i64) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_u8(self, _: u8) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_u16(self, _: u16) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_u32(self, _: u32) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_u64(self, _: u64) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_f32(self, _: f32) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_f64(self, _: f64) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_char(self, _: char) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_str(self, _: &str) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_bytes(self, _: &[u8]) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_none(self) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_unit(self) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, _: &'static str) -> Result<(), EncodeError> {
        refused("a bare value")
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<(), EncodeError> {
        refused("a variant with a value")
    }
    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, EncodeError> {
        refused("a bare array")
    }
    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, EncodeError> {
        refused("a tuple")
    }
    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Self::SerializeTuple, EncodeError> {
        refused("a tuple struct")
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTuple, EncodeError> {
        refused("a tuple variant")
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, EncodeError> {
        refused("a map")
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, EncodeError> {
        refused("a struct variant")
    }
}
