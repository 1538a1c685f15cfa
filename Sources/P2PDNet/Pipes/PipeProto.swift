/// The transport protocols a pipe can use. Unix-domain streams count as `tcp`: they behave alike.
public enum PipeProto: String, Sendable { case tcp, udp }
