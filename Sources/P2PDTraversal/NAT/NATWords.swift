import P2PDNet

/// A report in sentences, each with what follows from it for whoever wants to be reached.
extension NATReport {
  public var sentences: [String] {
    guard hasAnswer else {
      if udp.reach == nil, tcp.reach == nil { return ["Not measured yet."] }
      return [
        "No server answered, over UDP or TCP: this path has no way to the Internet, or a firewall lets nothing out."
      ]
    }
    var result = [mappingSentence]
    if udp.reach == .blocked {
      result.append("UDP is blocked. Connections over TCP are not affected; a relay must be spoken to over TCP or TLS.")
    } else if let sentence = filteringSentence {
      result.append(sentence)
    }
    if let sentence = tcpSentence { result.append(sentence) }
    if let sentence = hairpinSentence { result.append(sentence) }
    if carrierNAT == true {
      result.append(
        "The provider translates addresses too (carrier NAT): a port mapping at your own router is not enough to be reached."
      )
    }
    return result
  }

  /// The behaviour that TCP connections meet, as far as it is known.
  public var leading: NATBehaviour { tcp.mapping == nil ? udp : tcp }

  private var mappingSentence: String {
    switch leading.mapping {
    case nil:
      return "How the router maps ports is not known: one server answered, and it takes two to compare."
    case NATBehaviour.Mapping.none?:
      return "No address translation: the address of this interface is the one that others see."
    case .endpointIndependent?:
      return "A NAT that gives a port the same outside port for everybody: hole punching works with every peer "
        + "but those behind a symmetric NAT of random ports."
    case .addressDependent?, .addressAndPortDependent?, .endpointDependent?:
      let pattern =
        switch leading.allocation {
        case .sequential(let step, _)?:
          " The ports follow each other in steps of \(step), so they can be predicted as long as few others use the NAT."
        case .random?: " The ports are random, so peers behind another NAT will mostly need a relay."
        default: " Peers behind another NAT may need a relay."
        }
      return "A symmetric NAT: each peer sees another outside port." + pattern
    }
  }

  private var filteringSentence: String? {
    let isTranslated = udp.mapping != NATBehaviour.Mapping.none
    switch udp.filtering {
    case nil: return nil
    case NATBehaviour.Filtering.none?: return "Nothing is filtered: everybody can connect to this host directly."
    case .endpointIndependent?: return "Everybody can send in over UDP by a port that was used once."
    case .addressDependent?: return "Over UDP only hosts that were spoken to can send in."
    case .addressAndPortDependent?:
      return isTranslated
        ? "Over UDP only peers that were spoken to can send in, as with most routers."
        : "A firewall lets in answers only: others can connect after hole punching, or where a port is opened for them."
    }
  }

  private var tcpSentence: String? {
    guard let a = udp.mapping, let b = tcp.mapping, a != b, udp.reach == .answered else { return nil }
    return "UDP is mapped in another way than TCP: \(Self.word(a)) against \(Self.word(b))."
  }

  private var hairpinSentence: String? {
    switch hairpin {
    case .no?:
      return
        "Two hosts behind this router cannot reach each other by its outside address; on one LAN they use their own."
    default: return nil
    }
  }

  private static func word(_ mapping: NATBehaviour.Mapping) -> String {
    mapping.rawValue.replacing("_", with: " ")
  }
}
