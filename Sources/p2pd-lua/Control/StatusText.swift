import P2PDNet

/// The reports of a node for people to read, made of the JSON that the node sent.
enum StatusText {
  static func status(_ report: JSONText) -> String {
    var facts = TextTable()
    for (what, value) in self.facts(report) { facts.add([what, value]) }
    return facts.text + "\n" + protocols(report["protocols"]?.items ?? [])
  }

  private static func facts(_ report: JSONText) -> [(String, String)] {
    var facts: [(String, String)] = [
      ("node", "\(text(report["name"])), pid \(report["pid"]?.int ?? 0), p2pd-lua \(text(report["version"]))"),
      ("running", "\(Figures.time(report["uptime"]?.number ?? 0)), since \(text(report["started"]))"),
      ("key", text(report["key"])), ("address", text(report["address"])),
      ("listening", report["listening"]?.items.compactMap(\.string).joined(separator: ", ") ?? ""),
    ]
    for route in report["routes"]?.items ?? [] { facts.append(("route", self.route(route))) }
    facts += outside(report)
    let (traffic, rates) = (report["traffic"], report["rates"])
    facts += [
      (
        "pipes",
        "\(whole(report["pipes"]?["open"])) open, \(whole(report["pipes"]?["between_nodes"])) of them between nodes"
      ),
      (
        "messages",
        "\(rate(rates?["messages_in"]))/s in, \(rate(rates?["messages_out"]))/s out; in all \(whole(traffic?["messages_in"])) in, "
          + "\(whole(traffic?["messages_out"])) out, \(whole(traffic?["dropped"])) dropped"
      ),
      (
        "bytes",
        "\(bytes(rates?["bytes_in"]))/s in, \(bytes(rates?["bytes_out"]))/s out; in all \(bytes(traffic?["bytes_in"])) in, "
          + "\(bytes(traffic?["bytes_out"])) out"
      ),
      ("errors", errors(report["errors"])), ("memory", memory(report["memory"])), ("event loop", loop(report["loop"])),
    ]
    return facts
  }

  private static func route(_ route: JSONText) -> String {
    let ip = text(route["ip"])
    let place = ip.contains(":") ? "[\(ip)]" : ip
    var words = "\(place):\(route["port"]?.int ?? 0)"
    if let interface = route["interface"]?.string { words += " on \(interface)" }
    switch route["external"]?.string {
    case nil, "unknown": break
    case "none": words += ", no way out"
    case let seen?: words += ", seen from outside as \(seen)"
    }
    return words
  }

  /// How it looks from outside, and who leads to it.
  private static func outside(_ report: JSONText) -> [(String, String)] {
    if report["offline"]?.bool == true { return [("servers", "none: it is offline")] }
    var facts: [(String, String)] = []
    let external = report["external"]?.items.compactMap(\.string) ?? []
    if !external.isEmpty { facts.append(("outside", external.joined(separator: ", "))) }
    for path in report["paths"]?.items ?? [] {
      let words = path["words"]?.items.first?.string ?? ""
      facts.append(("network", "\(text(path["interface"])) \(text(path["local"])): \(words)"))
    }
    for broker in report["brokers"]?.items ?? [] {
      var words = "\(text(broker["broker"])): \(text(broker["state"]))"
      if let rtt = broker["rtt"]?.number { words += ", \(Figures.time(rtt))" }
      if broker["own"]?.bool == false { words += ", another node's" }
      if broker["state"]?.string != "up", let problem = broker["problem"]?.string { words += " (\(problem))" }
      facts.append(("broker", words))
    }
    return facts
  }

  private static func errors(_ errors: JSONText?) -> String {
    var words =
      "\(whole(errors?["count"])) in handlers, \(whole(errors?["stopped_for_time"])) stopped for running too long"
    if let last = errors?["last"].flatMap({ LogLine($0) }) {
      let first = last.message.prefix { $0 != "\n" }
      words += "; last: \(last.time.local(withDate: false)) \(first.prefix(120))"
    }
    return words
  }

  private static func memory(_ memory: JSONText?) -> String {
    var words =
      "Lua \(bytes(memory?["lua"])), at most \(bytes(memory?["lua_peak"])) so far, limit \(bytes(memory?["lua_limit"]))"
    if memory?["process"]?.int != nil { words += "; process \(bytes(memory?["process"]))" }
    return words
  }

  private static func loop(_ loop: JSONText?) -> String {
    let mean = Figures.time(loop?["lag_mean"]?.number ?? 0)
    let worst = Figures.time(loop?["lag_worst"]?.number ?? 0)
    var words = "\(mean) late on average, \(worst) at worst; \(whole(loop?["tasks"])) tasks"
    if loop?["descriptors"]?.int != nil { words += ", \(whole(loop?["descriptors"])) descriptors" }
    return words
  }

  private static func protocols(_ protocols: [JSONText]) -> String {
    var table = TextTable(
      ["PROTOCOL", "VERSION", "GENERATION", "PIPES", "MESSAGES", "ERRORS", "SCRIPT"], right: [1, 2, 3, 4, 5])
    for hosted in protocols {
      table.add([
        text(hosted["name"]) + (hosted["default"]?.bool == true ? " (default)" : ""), whole(hosted["version"]),
        whole(hosted["generation"]) + (hosted["on_probation"]?.bool == true ? " (on probation)" : ""),
        whole(hosted["pipes"]), whole(hosted["messages"]), whole(hosted["errors"]),
        text(hosted["path"]),
      ])
    }
    return table.text + protocols.map(lastReload).joined()
  }

  /// The last word about a protocol's code, where it is one to act on.
  private static func lastReload(_ hosted: JSONText) -> String {
    guard let reload = hosted["last_reload"], let result = reload["result"]?.string else { return "" }
    guard result == "rejected" || result == "rolled back" else { return "" }
    return "\nat \(text(reload["at"])): " + ReloadReports.text(reload)
  }

  // MARK: Pipes

  static func pipes(_ report: JSONText) -> String {
    let pipes = report["pipes"]?.items ?? []
    guard !pipes.isEmpty else { return "no pipe is open\n" }
    var table = TextTable(
      ["ID", "PROTOCOL", "PEER", "PATH", "AGE", "IN", "OUT", "QUEUE", "UNSENT", "RTT"], right: [0, 4, 5, 6, 7, 8, 9])
    for pipe in pipes {
      table.add([
        "\(pipe["id"]?.int ?? 0)", text(pipe["protocol"]), peer(pipe), path(pipe),
        Figures.time(pipe["age"]?.number ?? 0), bytes(pipe["bytes_in"]), bytes(pipe["bytes_out"]),
        whole(pipe["queued"]), bytes(pipe["unsent"]), pipe["rtt"]?.number.map(Figures.time) ?? "-",
      ])
    }
    return table.text
  }

  /// Whose key it is where that is proven, and where.
  private static func peer(_ pipe: JSONText) -> String {
    let place = text(pipe["peer"])
    if pipe["server"]?.bool == true { return "server on \(place)" }
    guard let key = pipe["peer_id"]?.string else { return place }
    return "\(key.prefix(10)) \(place)"
  }

  private static func path(_ pipe: JSONText) -> String {
    let path = text(pipe["path"])
    return path.isEmpty ? text(pipe["proto"]) : path
  }

  // MARK: Cells

  private static func text(_ value: JSONText?) -> String { value?.string ?? "" }
  private static func whole(_ value: JSONText?) -> String { Figures.count(value?.int ?? 0) }
  private static func bytes(_ value: JSONText?) -> String { Progress.amount(value?.number ?? 0) }

  private static func rate(_ value: JSONText?) -> String {
    let number = value?.number ?? 0
    return number < 1000 ? Figures.short(number) : Figures.count(Int(clamping: Int64(min(number, 1e15))))
  }
}
