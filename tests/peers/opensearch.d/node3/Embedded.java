import java.util.List;
import org.opensearch.Version;
import org.opensearch.env.Environment;
import org.opensearch.node.Node;
import org.opensearch.plugins.PluginInfo;
import org.opensearch.transport.Netty4ModulePlugin;

/** A node of OpenSearch 3.x with its HTTP server from the class path: there a plugin is described. */
final class Embedded extends Node {
    private static final String NETTY = Netty4ModulePlugin.class.getName();

    Embedded(Environment environment) {
        super(environment, List.of(new PluginInfo(NETTY, "HTTP", "NA", Version.CURRENT, "21", NETTY, null, List.of(), false)), false);
    }
}
