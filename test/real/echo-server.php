<?php // What echo-server.py is, for PHP's own server: `ECHO_LOG=FILE php -S 127.0.0.1:PORT echo-server.php`.
$target = $_SERVER['REQUEST_URI'];
$body = str_starts_with($target, '/ignored') ? '' : file_get_contents('php://input');
$fields = [];
foreach (['host', 'cookie', 'x', 'x-forwarded-for', 'tailscale-user-login'] as $name) {
    $fields[] = $name . '=' . ($_SERVER['HTTP_' . strtoupper(strtr($name, '-', '_'))] ?? '');
}
$line = "{$_SERVER['REQUEST_METHOD']} $target |" . implode('|', $fields) . ' ' . strlen($body) . ':' . sha1($body);
file_put_contents(getenv('ECHO_LOG'), "$line\n", FILE_APPEND | LOCK_EX);
header('Content-Length: ' . strlen($line));
header('Content-Type: application/octet-stream');
echo $line;
