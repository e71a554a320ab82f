import java.util.List;
import org.opensearch.env.Environment;
import org.opensearch.node.Node;
import org.opensearch.transport.Netty4Plugin;

/** A node of OpenSearch 2.x with its HTTP server from the class path. */
final class Embedded extends Node {
    Embedded(Environment environment) {
        super(environment, List.of(Netty4Plugin.class), false);
    }
}
