# What echo-server.py is, with Perl's HTTP::Daemon: a process a connection, all write to one log.
use strict;
use warnings;
use Digest::SHA qw(sha1_hex);
use Fcntl qw(:flock);
use HTTP::Daemon;
use HTTP::Response;

my @fields = qw(host cookie x x-forwarded-for tailscale-user-login);
my $file = $ARGV[0];
$SIG{CHLD} = 'IGNORE';
$| = 1;
my $daemon = HTTP::Daemon->new(LocalAddr => '127.0.0.1', LocalPort => 0, Listen => 64) or die $!;
print $daemon->sockport, "\n";

while (my $client = $daemon->accept) {
    if (fork) { $client->close; next; }
    while (my $request = $client->get_request) {
        # Its body is read by now, whether we like it or not.
        my $target = $request->uri->as_string;
        my $body = $target =~ m{^/ignored} ? '' : $request->content;
        my $values = join '|', map { "$_=" . join(',', $request->header($_)) } @fields;
        my $line = join ' ', $request->method, $target, "|$values", length($body) . ':' . sha1_hex($body);
        open my $log, '>>', $file or die $!;
        flock $log, LOCK_EX;
        print $log "$line\n";
        close $log;
        $client->send_response(HTTP::Response->new(200, 'OK', ['Content-Length' => length $line], $request->method eq 'HEAD' ? '' : $line));
    }
    exit;
}
