//! How bytes inside lists and options stand in stored JSON: lower-case hex, as `hex::serde` has it.

pub mod option {
    use hex::FromHex;
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serialize;
    use serde::Serializer;
    use serde::de::Error;

    pub fn serialize<S, T>(bytes: &Option<T>, s: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
        T: AsRef<[u8]>,
    {
        bytes.as_ref().map(hex::encode).serialize(s)
    }

    pub fn deserialize<'de, T, D>(d: D) -> Result<Option<T>, D::Error>
    where
        T: FromHex,
        D: Deserializer<'de>,
    {
        let text = Option::<String>::deserialize(d)?;
        text.map(|text| T::from_hex(text))
            .transpose()
            .map_err(|_| D::Error::custom("not the hex that belongs here"))
    }
}

pub mod list {
    use hex::FromHex;
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error;

    pub fn serialize<S, T>(items: &[T], s: S) -> Result<S::Ok, S::Error>
    where
        S: Serializer,
        T: AsRef<[u8]>,
    {
        s.collect_seq(items.iter().map(hex::encode))
    }

    pub fn deserialize<'de, T, D>(d: D) -> Result<Vec<T>, D::Error>
    where
        T: FromHex,
        D: Deserializer<'de>,
    {
        let texts = Vec::<String>::deserialize(d)?;
        texts
            .iter()
            .map(T::from_hex)
            .collect::<Result<_, _>>()
            .map_err(|_| D::Error::custom("not the hex that belongs here"))
    }
}

/// Faces by their words.
pub mod faces {
    use assay_evidence::binding::Face;
    use serde::Deserialize;
    use serde::Deserializer;
    use serde::Serializer;
    use serde::de::Error;

    pub fn serialize<S: Serializer>(faces: &[Face], s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(faces.iter().map(|face| face.as_str()))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<Face>, D::Error> {
        let words = Vec::<String>::deserialize(d)?;
        words
            .iter()
            .map(|word| Face::parse(word))
            .collect::<Option<_>>()
            .ok_or_else(|| D::Error::custom("not a face"))
    }
}
