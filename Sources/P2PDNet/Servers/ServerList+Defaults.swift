extension ServerList {
  /// Well-known public servers, so that a node works at once. Their owners offer them to everybody and promise nothing;
  /// whoever runs many nodes hosts their own (docs/servers). Relays cost their owner money, so none is in the list.
  public static let publicServers: ServerList = {
    var list = ServerList()
    list.stun = [
      ServerURL(.stun, host: "stun.cloudflare.com"),
      ServerURL(.stun, host: "stun.l.google.com", port: 19302),
      ServerURL(.stun, host: "stun.nextcloud.com"),
      // One that has two addresses tells how a router filters (RFC 5780).
      ServerURL(.stun, host: "stunserver2025.stunprotocol.org"),
      ServerURL(.stun, host: "stun.sipgate.net"),
      ServerURL(.stun, host: "global.stun.twilio.com"),
    ]
    list.brokers = [
      ServerURL(.mqtts, host: "broker.emqx.io"),
      ServerURL(.mqtts, host: "broker.hivemq.com"),
      // 8883 has a certificate of a CA of its own; 8886 one that machines trust.
      ServerURL(.mqtts, host: "test.mosquitto.org", port: 8886),
    ]
    list.ntp = [
      ServerURL(.ntp, host: "time.cloudflare.com"),
      ServerURL(.ntp, host: "time.google.com"),
    ]
    return list
  }()
}
