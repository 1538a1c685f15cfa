/// The control packets of MQTT 3.1.1 (OASIS, 2014) that a client at quality of service 0 and 1 meets. The four of quality
/// 2 are left out on purpose: a broker may not send them to a client that asked for less (§3.8.4).
enum MQTTPacket: Equatable, Sendable {
  case connect(MQTTConnect)
  case connack(sessionPresent: Bool, code: UInt8)
  case publish(MQTTPublish)
  case puback(id: UInt16)
  case subscribe(id: UInt16, filters: [MQTTFilter])
  case suback(id: UInt16, codes: [UInt8])
  case unsubscribe(id: UInt16, filters: [String])
  case unsuback(id: UInt16)
  case pingreq
  case pingresp
  case disconnect
}

/// §3.1. Without a will: nobody is to learn from the broker when a node goes.
struct MQTTConnect: Equatable, Sendable {
  var clientID: String
  var cleanSession = true
  /// Seconds; 0 turns the broker's watch off.
  var keepAlive: UInt16
  var user: String?
  var password: [UInt8]?
}

/// §3.3.
struct MQTTPublish: Equatable, Sendable {
  var topic: String
  var payload: [UInt8]
  /// 0 or 1.
  var qos: UInt8 = 0
  /// With quality 1 only.
  var id: UInt16?
  var isDuplicate = false
  var isRetained = false
}

/// One line of a SUBSCRIBE (§3.8.3).
struct MQTTFilter: Equatable, Sendable {
  var topic: String
  var qos: UInt8
}

/// Why a broker's bytes are not MQTT.
enum MQTTError: Error, Equatable {
  /// The packet of this type number is cut short, too long, or says what the standard forbids; the string names it.
  case malformed(UInt8, String)
  /// A type number this client does not take.
  case unexpected(UInt8)
  /// The length field has more than four bytes (§2.2.3).
  case length
  /// Longer than this client reads.
  case tooLong(Int)
}

/// What CONNACK's code says (§3.2.2.3).
enum MQTTRefusal {
  static func words(_ code: UInt8) -> String {
    switch code {
    case 1: "the broker does not speak MQTT 3.1.1"
    case 2: "the broker refuses the client's name"
    case 3: "the broker is out of service"
    case 4: "the broker refuses the user name or password"
    case 5: "the broker lets this client do nothing"
    default: "the broker refused with code \(code)"
    }
  }

  /// Trying again soon cannot help.
  static func isLasting(_ code: UInt8) -> Bool { code != 3 }
}
