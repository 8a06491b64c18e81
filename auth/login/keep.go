package login
import _ "github.com/gofrs/flock"
