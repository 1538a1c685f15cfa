import P2PDNet

/// A message of DNS (RFC 1035 §4.1), which multicast DNS uses as well (RFC 6762 §18).
struct DNSMessage: Hashable, Sendable {
  var id: UInt16 = 0
  /// The second word of the header.
  var flags: UInt16 = 0
  var questions: [DNSQuestion] = []
  var answers: [DNSRecord] = []
  /// In multicast DNS: what a prober wants to own.
  var authorities: [DNSRecord] = []
  var additionals: [DNSRecord] = []

  init() {}

  var isResponse: Bool {
    get { flags & 0x8000 != 0 }
    set { flags = newValue ? flags | 0x8000 : flags & ~0x8000 }
  }
  /// Four bits; 0 is a common question.
  var operation: UInt16 { flags >> 11 & 0xf }
  /// AA: the sender owns what it says.
  var isAuthoritative: Bool {
    get { flags & 0x400 != 0 }
    set { flags = newValue ? flags | 0x400 : flags & ~0x400 }
  }
  /// TC: there is more than fits. In multicast DNS more messages follow.
  var isTruncated: Bool {
    get { flags & 0x200 != 0 }
    set { flags = newValue ? flags | 0x200 : flags & ~0x200 }
  }
  /// RD: the server is to ask others.
  var wantsRecursion: Bool {
    get { flags & 0x100 != 0 }
    set { flags = newValue ? flags | 0x100 : flags & ~0x100 }
  }
  /// RCODE without the bits that ``DNSType/opt`` has.
  var code: UInt16 {
    get { flags & 0xf }
    set { flags = flags & ~0xf | newValue & 0xf }
  }
}

extension DNSMessage {
  /// nil for what is no message, or damaged. Bytes behind the last record do not matter.
  init?(_ bytes: [UInt8]) {
    var reader = DNSReader(bytes)
    guard let id = reader.uint16(), let flags = reader.uint16(), let questions = reader.uint16(),
      let answers = reader.uint16(), let authorities = reader.uint16(), let additionals = reader.uint16()
    else { return nil }
    self.id = id
    self.flags = flags
    for _ in 0..<questions {
      guard let name = reader.name(), let type = reader.uint16(), let rawClass = reader.uint16() else { return nil }
      self.questions.append(DNSQuestion(name: name, type: DNSType(type), rawClass: rawClass))
    }
    guard Self.read(answers, into: &self.answers, &reader), Self.read(authorities, into: &self.authorities, &reader),
      Self.read(additionals, into: &self.additionals, &reader)
    else { return nil }
  }

  /// Nothing is set aside for what the header only announces.
  private static func read(_ count: UInt16, into records: inout [DNSRecord], _ reader: inout DNSReader) -> Bool {
    for _ in 0..<count {
      guard let name = reader.name(), let type = reader.uint16(), let rawClass = reader.uint16(),
        let ttl = reader.uint32(), let length = reader.uint16(), let part = reader.part(Int(length)),
        let data = DNSData(DNSType(type), part)
      else { return false }
      records.append(DNSRecord(name: name, rawClass: rawClass, ttl: ttl, data: data))
    }
    return true
  }

  /// The message on the wire. At most 65 535 questions and records of each kind are written.
  var bytes: [UInt8] {
    var writer = DNSWriter()
    writer.append(uint16: id)
    writer.append(uint16: flags)
    for count in [questions.count, answers.count, authorities.count, additionals.count] {
      writer.append(uint16: UInt16(clamping: count))
    }
    for question in questions.prefix(Self.mostRecords) {
      writer.name(question.name)
      writer.append(uint16: question.type.number)
      writer.append(uint16: question.rawClass)
    }
    for section in [answers, authorities, additionals] {
      for record in section.prefix(Self.mostRecords) {
        writer.name(record.name)
        writer.append(uint16: record.type.number)
        writer.append(uint16: record.rawClass)
        writer.append(uint32: record.ttl)
        writer.sized { record.data.write(&$0) }
      }
    }
    return writer.bytes
  }

  private static let mostRecords = Int(UInt16.max)
}
