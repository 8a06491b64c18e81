package main

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/openfaas/faas-provider/types"
	"github.com/rs/zerolog"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/auth/iam/store"
	"github.com/gatehound/gatehound/auth/iam/store/kubernetes"
	"github.com/gatehound/gatehound/config"
	"github.com/gatehound/gatehound/exchange"
	"github.com/gatehound/gatehound/exchange/issuer"
	"github.com/gatehound/gatehound/executor/reverseproxy"
	"github.com/gatehound/gatehound/gateway"
	"github.com/gatehound/gatehound/gateway/basicauth"
	"github.com/gatehound/gatehound/gateway/dashboard"
	"github.com/gatehound/gatehound/gateway/history"
	"github.com/gatehound/gatehound/gateway/program"
	"github.com/gatehound/gatehound/gateway/provider"
	"github.com/gatehound/gatehound/gateway/provider/local"
	"github.com/gatehound/gatehound/gateway/provider/upstream"
	"github.com/gatehound/gatehound/gateway/quickstart"
)

// run serves until SIGINT, SIGTERM or SIGHUP, then stops in order: calls
// first, functions next, the rest last. A second signal ends it at once. dev
// is nil except in `up` mode.
func run(environ []string, dev *development) error {
	settings, err := config.ParseGateway(environ)
	if err != nil {
		return err
	}
	log := program.NewLogger(os.Stderr, settings.LogJSON, settings.Debug)
	signalled, stopSignals := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stopSignals()
	context.AfterFunc(signalled, func() {
		stopSignals() // before it is said that a second one works
		log.Info().Msg("stopping; a second Ctrl-C stops at once")
	})

	unlock, err := openDataDir(settings.DataDir)
	if err != nil {
		return err
	}
	defer unlock()
	listener, err := reverseproxy.Listen("tcp", settings.Address, settings.WriteTimeout)
	if err != nil {
		return program.ListenError(err, settings.Address, "port or listen")
	}
	defer listener.Close()
	listener.Logf = logAt(log, zerolog.ErrorLevel)
	self := "http://" + listener.Addr().String()
	if settings.SystemIssuer == "" {
		settings.SystemIssuer = self
	}

	system, err := issuer.Open(issuer.Config{
		URL: settings.SystemIssuer, Path: keyPath(settings), Ours: settings.GenerateKey,
		Logf: logAt(log, zerolog.InfoLevel), Warnf: logAt(log, zerolog.WarnLevel),
	})
	if err != nil {
		return fmt.Errorf("issuer_key_path: %w", err)
	}
	credentials, err := basicauth.Read(settings.SecretMountPath, settings.GenerateSecrets)
	if err != nil && (settings.BasicAuth || !errors.Is(err, fs.ErrNotExist)) {
		return fmt.Errorf("secret_mount_path: %w", err)
	}
	var admin basicauth.Credentials
	if settings.BasicAuth && settings.AuthProxyURL == nil {
		admin = credentials // else they are for the provider alone, if there are any
	}
	var documents map[string][]byte
	if dev != nil {
		if settings.IAMKubernetes {
			return errors.New("`gateway up` has its IAM objects in a folder: unset iam_store, or start `gateway` without up")
		}
		if documents, err = dev.prepare(settings, self); err != nil {
			return err
		}
	} else if !settings.IAMKubernetes {
		if err := forgetDevelopment(settings, log); err != nil {
			return err
		}
	}
	objects, err := openObjects(settings, log)
	if err != nil {
		return err
	}
	client, err := issuersClient(settings, log)
	if err != nil {
		return err
	}
	exchanger, err := exchange.New(exchange.Config{
		Issuer: system, Objects: objects.Current, Client: client, Cluster: cluster(settings, serviceAccount),
		Logf: logAt(log, zerolog.InfoLevel), Warnf: logAt(log, zerolog.WarnLevel),
	})
	if err != nil {
		return err
	}

	open, err := openToAll(settings, listener.Addr())
	if err != nil {
		return err
	}
	functions, err := openProvider(settings, self, credentials, dev, log)
	if err != nil {
		return err
	}
	defer functions.remove()
	recorded, err := openEvents(settings, log)
	if err != nil {
		return err
	}
	guesses := basicauth.NewGuesses(nil)
	var gw *gateway.Gateway // which has the dashboard, which asks it
	pages, runPages, err := openDashboard(settings, listener.Addr(), dashboard.Config{
		Password: admin.Set() || settings.AuthProxyURL != nil,
		Guesses:  guesses, Open: open, Foreign: settings.AuthProxyURL != nil,
		Identify: exchanger.Authenticate, Objects: objects.Current, Issuer: settings.SystemIssuer,
		Hour: func(ctx context.Context, namespace, name string) history.Hour {
			return gw.Hour(ctx, namespace, name)
		},
		Hours: func(ctx context.Context, namespace string) map[string]history.Hour {
			return gw.Hours(ctx, namespace)
		},
		Log: log,
	}, client)
	if err != nil {
		return err
	}
	gw = gateway.New(gateway.Config{
		Provider:         functions.Provider,
		Issuer:           system,
		Exchange:         exchanger,
		Admin:            admin,
		Guesses:          guesses,
		Open:             open,
		DefaultNamespace: settings.FunctionNamespace,
		Prometheus:       settings.Prometheus,
		Documents:        documents,
		Dashboard:        pages,
		ReadTimeout:      settings.ReadTimeout,
		DrainTimeout:     settings.WriteTimeout,
		UpstreamTimeout:  settings.UpstreamTimeout,
		Auditing:         recorded.auditing,
		Metering:         recorded.metering,
		Log:              log,

		AuthPlugin:        settings.AuthProxyURL,
		AuthPassBody:      settings.AuthPassBody,
		ValidateForwarded: settings.ValidateForwarded,
	})
	closeMetrics, err := program.ServeMetrics(settings.MetricsAddress, gw.MetricsHandler())
	if err != nil {
		return err
	}
	defer closeMetrics()

	background, endBackground := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { system.Run(background) })
	running.Go(func() { objects.Run(background) })
	running.Go(func() { exchanger.Run(background) })
	running.Go(func() { functions.run(background) })
	running.Go(func() { recorded.run(background) })
	running.Go(func() { runPages(background) })
	log.Info().Msgf("listening on %s, issuer %s", self, settings.SystemIssuer)
	warnOfIgnored(settings, log)
	if pages != nil {
		log.Info().Msgf("the dashboard is at %s/ui/", strings.TrimSuffix(cmp.Or(publicURL(settings), self), "/"))
	}
	if plugin := settings.AuthProxyURL; plugin != nil {
		log.Info().Msgf("the auth plugin at %s://%s decides who may do what below /system/", plugin.Scheme, plugin.Host)
	}
	if open {
		log.Warn().Msgf("basic_auth=false and no IAM objects in %s: everybody on this machine may deploy and delete functions", settings.IAMDir)
	}
	running.Go(func() { functions.announce(signalled, dev, settings, self, log) })
	err = gw.Serve(signalled, listener)
	endBackground()
	running.Wait()
	return err
}

// warnOfIgnored names what is set for OpenFaaS' gateway and does nothing in ours.
func warnOfIgnored(settings config.Gateway, log zerolog.Logger) {
	if names := settings.AsyncIgnored; len(names) > 0 {
		log.Warn().Msgf("%s: no effect, as async calls are not implemented in this release", strings.Join(names, ", "))
	}
}

// openToAll reports whether the administration API asks for nothing. It must
// have been said so, there must be no objects by which tokens could be asked
// for (a file that is faulty is still the operator's wish to have some), and
// nobody from elsewhere must get here.
func openToAll(settings config.Gateway, address net.Addr) (bool, error) {
	if settings.BasicAuth || settings.AuthProxyURL != nil || settings.IAMKubernetes || !settings.GenerateIAM {
		return false, nil
	}
	entries, err := os.ReadDir(settings.IAMDir)
	if err != nil {
		return false, fmt.Errorf("iam_dir: %w", err)
	}
	if len(entries) > 0 {
		return false, nil
	}
	if tcp, ok := address.(*net.TCPAddr); !ok || !tcp.IP.IsLoopback() {
		return false, fmt.Errorf("basic_auth=false without IAM objects opens /system/ to everybody who can reach %s: "+
			"set listen=127.0.0.1:8080, or iam_dir or iam_store to have API tokens asked for", address)
	}
	return true, nil
}

// iamStore has the IAM objects, wherever they are.
type iamStore interface {
	// Current returns the objects in force; nil = they are not known yet.
	Current() *iam.Set
	Run(ctx context.Context)
}

func openObjects(settings config.Gateway, log zerolog.Logger) (iamStore, error) {
	logf, warnf := logAt(log, zerolog.InfoLevel), logAt(log, zerolog.WarnLevel)
	if settings.IAMKubernetes {
		client, err := kubernetes.Connect(settings.Kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("iam_store=kubernetes: %w", err)
		}
		return kubernetes.New(kubernetes.Config{Client: client, Namespace: settings.IAMNamespace, Logf: logf, Warnf: warnf}), nil
	}
	folder, err := store.Open(store.Config{Dir: settings.IAMDir, Logf: logf, Warnf: warnf})
	if err != nil {
		return nil, fmt.Errorf("iam_dir: %w", err)
	}
	return folder, nil
}

// functions is the provider in use, with what the embedded one needs besides.
type functions struct {
	provider.Provider
	local  *local.Provider            // nil = upstream
	stack  []types.FunctionDeployment // what the stack file says
	file   string                     // the stack file, followed; "" = none
	remove func()                     // removes the run folder
}

func openProvider(settings config.Gateway, self string, admin basicauth.Credentials, dev *development, log zerolog.Logger) (*functions, error) {
	if settings.FunctionsProvider != nil {
		remote, err := upstream.New(upstream.Config{
			URL: settings.FunctionsProvider, Logs: settings.LogsProvider, User: admin.User(), Password: admin.Password(),
			ScaleFromZero: settings.ScaleFromZero, Probe: settings.ProbeFunctions, StartTimeout: settings.UpstreamTimeout,
			Direct: settings.DirectFunctions, DirectSuffix: settings.DirectFunctionsSuffix,
			MaxIdle: settings.MaxIdleConns, MaxIdlePerHost: settings.MaxIdleConnsPerHost,
		})
		if err != nil {
			return nil, err
		}
		return &functions{Provider: remote, remove: remote.Close}, nil
	}

	deployments, workDir, err := readStack(settings, dev != nil)
	if err != nil {
		return nil, err
	}
	executable, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("cannot find this program to start it as fwatchdog: %w", err)
	}
	dir, err := makeRunDir(settings.DataDir)
	if err != nil {
		return nil, err
	}
	remove := func() {
		_ = os.RemoveAll(dir)
		_ = os.Remove(filepath.Join(settings.DataDir, runLink))
	}
	path, err := linkHello(dir, executable)
	if err != nil {
		remove()
		return nil, err
	}
	p, err := local.Open(local.Config{
		Executable:       executable,
		StateDir:         filepath.Join(settings.DataDir, "functions"),
		RunDir:           dir,
		FunctionsDir:     settings.FunctionsDir,
		WorkDir:          workDir,
		Path:             path,
		Authority:        self,
		DefaultNamespace: settings.FunctionNamespace,
		StayAtZero:       !settings.ScaleFromZero,
		Log:              log,
		Output:           functionOutput(os.Stderr, settings, log),
	})
	if err == nil {
		err = p.ApplyStack(context.Background(), deployments)
	}
	if err != nil {
		remove()
		return nil, err
	}
	return &functions{Provider: p, local: p, stack: deployments, file: settings.StackFile, remove: remove}, nil
}

// readStack returns the functions to run and the folder to run them in; "" =
// any, which is enough for the quickstart's.
func readStack(settings config.Gateway, orQuickstart bool) (functions []types.FunctionDeployment, workDir string, err error) {
	switch file := settings.StackFile; {
	case file != "":
		if functions, err = local.ReadStack(file, settings.FunctionNamespace); err != nil {
			return nil, "", err
		}
		workDir, err = filepath.Abs(filepath.Dir(file))
	case orQuickstart:
		functions, err = local.ParseStack("quickstart/stack.yml", quickstart.Stack, settings.FunctionNamespace)
	}
	return functions, workDir, err
}

func (f *functions) run(ctx context.Context) {
	if f.local == nil {
		return
	}
	var following sync.WaitGroup
	if f.file != "" {
		following.Go(func() { f.local.FollowStack(ctx, f.file, f.stack) })
	}
	f.local.Run(ctx)
	following.Wait()
}

// announce waits for the functions and says that they are there.
func (f *functions) announce(ctx context.Context, dev *development, settings config.Gateway, self string, log zerolog.Logger) {
	if f.local == nil {
		return
	}
	bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	unready := f.local.WaitReady(bounded)
	if ctx.Err() != nil {
		return
	}
	for _, name := range unready {
		log.Warn().Msgf("function %s is not ready after 30s: see its output above", name)
	}
	if dev != nil {
		dev.announce(f.stack, settings, self)
	}
}

// maxBlock is how much memory is kept for lines that are to be written together.
const maxBlock = 128 << 10

// functionOutput writes what functions print: plain lines for people, fields
// for log collectors. Lines that come together go out with one system call: under
// load, the functions' access logs would else cost one for each call.
func functionOutput(out io.Writer, settings config.Gateway, log zerolog.Logger) func(provider.Function, []string) {
	var mu sync.Mutex
	var block bytes.Buffer
	fields := log.Output(&block)
	return func(f provider.Function, lines []string) {
		mu.Lock()
		defer mu.Unlock()
		for _, line := range lines {
			if settings.LogJSON {
				fields.Info().Str("function", f.String()).Msg(line)
				continue
			}
			block.WriteString(f.Name)
			block.WriteString(" | ")
			block.WriteString(line)
			block.WriteByte('\n')
		}
		_, _ = out.Write(block.Bytes())
		if block.Reset(); block.Cap() > maxBlock {
			block = bytes.Buffer{}
		}
	}
}

// logAt is what packages that log without levels are given.
func logAt(log zerolog.Logger, level zerolog.Level) func(string, ...any) {
	return func(format string, args ...any) { log.WithLevel(level).Msgf(format, args...) }
}

// linkHello puts the hello function into a folder in front of PATH.
func linkHello(dir, executable string) (path string, err error) {
	bin := filepath.Join(dir, "bin")
	if err := os.Mkdir(bin, 0o700); err != nil {
		return "", err
	}
	if err := os.Symlink(executable, filepath.Join(bin, "hello")); err != nil {
		return "", err
	}
	return bin + string(os.PathListSeparator) + os.Getenv("PATH"), nil
}
