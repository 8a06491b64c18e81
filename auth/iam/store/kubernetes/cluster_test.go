package kubernetes_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/gatehound/gatehound/auth/iam"
	"github.com/gatehound/gatehound/auth/iam/store/kubernetes"
)

func gvr(kind string) schema.GroupVersionResource {
	resource := map[string]string{"JwtIssuer": "jwtissuers", "Policy": "policies", "Role": "roles"}[kind]
	return schema.GroupVersionResource{Group: "iam.openfaas.com", Version: "v1", Resource: resource}
}

// cluster is the store of custom resources, be the API server real or not.
type cluster struct {
	*kubernetes.Store
	log       *log
	admin     dynamic.Interface // not affected by cut
	namespace string
}

// open makes a store on client that follows c's namespace until the test ends.
func (c *cluster) open(t *testing.T, client dynamic.Interface) {
	c.log = &log{}
	c.Store = kubernetes.New(kubernetes.Config{Client: client, Namespace: c.namespace, Logf: c.log.printf})
	ctx := t.Context() // ends before the cleanups
	t.Cleanup(start(t, func() { c.Run(ctx) }))
}

func (c *cluster) put(t *testing.T, kind, name, spec string) {
	t.Helper()
	u := object(t, manifest(kind, name, spec))
	u.SetNamespace(c.namespace)
	client := c.admin.Resource(gvr(kind)).Namespace(c.namespace)
	_, err := client.Create(context.Background(), u, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		var last *unstructured.Unstructured
		last, err = client.Get(context.Background(), name, metav1.GetOptions{})
		require.NoError(t, err)
		u.SetResourceVersion(last.GetResourceVersion())
		_, err = client.Update(context.Background(), u, metav1.UpdateOptions{})
	}
	require.NoError(t, err)
}

func (c *cluster) remove(t *testing.T, kind, name string) {
	t.Helper()
	require.NoError(t, c.admin.Resource(gvr(kind)).Namespace(c.namespace).Delete(context.Background(), name, metav1.DeleteOptions{}))
}

func (c *cluster) current() *iam.Set       { return c.Current() }
func (c *cluster) problems() []iam.Problem { return c.Problems() }

const unreachable = "the Kubernetes API server cannot be reached"

func (c *cluster) lost() bool {
	return c.log.count("iam: "+unreachable) > c.log.count("over: "+unreachable)
}

// object reads a manifest as kubectl does.
func object(t *testing.T, manifest string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	data, err := yaml.YAMLToJSON([]byte(manifest))
	require.NoError(t, err)
	require.NoError(t, u.UnmarshalJSON(data))
	return u
}
